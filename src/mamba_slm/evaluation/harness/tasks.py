"""Tasks of lm-evaluation-harness by name, with its prompts, few-shot settings and versions, on local data if asked."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import ConfigError, DataError, UnknownNameError
from mamba_slm.core.optional import require
from mamba_slm.core.plugins import find_plugin, installed_plugins_text, plugin_names, require_plugin_type
from mamba_slm.evaluation.harness.local_data import LocalDataset, local_dataset
from mamba_slm.evaluation.harness.names import CODE, EXTRAS, FOLDERS, THE_TEN
from mamba_slm.tasks.plugin import TaskPlugin

PURPOSE = "asking the questions of benchmarks"
OWN_NAMES = (*THE_TEN, *EXTRAS)
"""Which no plugin may take over."""
FEWSHOT_SEED = 1234
"""That of the `lm_eval` command: which examples stand before a question."""

MAY_BE_PARTIAL = ("blimp",)
"""Groups whose sets are worth running one by one."""

EVALUATED = ("test_split", "validation_split")
SPLITS = (*EVALUATED, "training_split", "fewshot_split")


@dataclass
class LoadedTasks:
    """What lm-evaluation-harness evaluates."""

    tasks: dict[str, Any]
    """Task objects by name."""
    groups: dict[str, Any]
    group_map: dict[str, list[str]]
    notes: dict[str, str] = field(default_factory=dict)
    """By task or group: what a reader of the score must know."""

    def as_harness_dict(self) -> dict[str, Any]:
        """The argument of `lm_eval.evaluator.evaluate`."""
        return {"tasks": self.tasks, "groups": self.groups, "group_map": self.group_map}


@contextmanager
def quietly() -> Iterator[None]:
    """Without the libraries' warnings and progress bars, which say nothing that the report does not say."""
    datasets: Any = require("datasets", extra="eval", purpose=PURPOSE)
    building: Any = require("lm_eval.api.task", extra="eval", purpose=PURPOSE)
    logger = logging.getLogger("lm_eval")
    before, bars, bar = logger.level, datasets.are_progress_bars_disabled(), building.tqdm
    logger.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    building.tqdm = functools.partial(bar, disable=True)
    try:
        yield
    finally:
        building.tqdm = bar
        logger.setLevel(before)
        if not bars:
            datasets.enable_progress_bars()


def load_tasks(names: Sequence[str], *, data_dir: Path | None = None, num_fewshot: int | None = None) -> LoadedTasks:
    """Tasks, groups and tags by name, or a task of one's own as a YAML file in the form of lm-evaluation-harness.

    Args:
        data_dir: where the questions lie; None downloads them, as the task says.
        num_fewshot: examples before each question in place of the task's own number; tasks that fix 0 keep it.

    Raises:
        UnknownNameError: no such task; names the nearest.
        DataError: a local copy is missing or damaged.
        ConfigError: a YAML file that is no task.
    """
    with quietly():
        library: Any = require("lm_eval.tasks", extra="eval", purpose=PURPOSE)
        factories: Any = require("lm_eval.tasks._factory", extra="eval", purpose=PURPOSE)
        root = Path(library.__file__).parent
        notes: dict[str, str] = {}

        class LocalFactory(factories.TaskFactory):
            """Gives every task its local data."""

            def _load_full_config(self, entry: Any, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
                config: dict[str, Any] = super()._load_full_config(entry, overrides)
                if data_dir is None or "class" in config:
                    return config
                if "group" in config and config["group"] in MAY_BE_PARTIAL:
                    return only_what_is_there(config, data_dir, manager, notes)
                return with_local_data(config, data_dir, notes) if "dataset_path" in config else config

        folders = [str(root / folder) for folder in FOLDERS]
        manager = library.TaskManager(include_path=folders, include_defaults=False)
        from_plugins = {name: plugin_task(name) for name in names if name in plugin_names("tasks", own=OWN_NAMES)}
        names = [name for name in names if name not in from_plugins]
        if not all(is_known(name, manager) for name in names):
            manager = library.TaskManager()
        for name in names:
            if not is_known(name, manager):
                known = [*manager.all_tasks, *plugin_names("tasks")]
                raise UnknownNameError("benchmark", name, known, hint=listing())
        manager._factory = LocalFactory()
        try:
            ours = [str(Path(name)) if is_file(name) else name for name in names]
            found = manager.load([*ours, *from_plugins.values()])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if any(is_file(name) for name in names):
                raise ConfigError(f"{', '.join(names)} cannot be loaded: {error}", hint=YAML_HINT) from error
            raise
        except (OSError, ConnectionError) as error:
            raise DataError(
                f"the questions of {', '.join(names)} cannot be had: {error}",
                hint="give a folder with local copies to --data-dir, or try again with a network",
            ) from error
    loaded = LoadedTasks(found["tasks"], found["groups"], found["group_map"], notes)
    for task in loaded.tasks.values():
        set_examples(task, num_fewshot)
    return loaded


YAML_HINT = "write a task as lm-evaluation-harness describes it: task, dataset_path, doc_to_text, doc_to_target, ..."


def listing() -> str:
    """What can be typed, for a hint."""
    ours = f"known here: all, {', '.join((*THE_TEN, *EXTRAS))}; and every other task of lm-evaluation-harness"
    return f"{ours}; {installed_plugins_text('tasks')}"


def plugin_task(name: str) -> dict[str, Any]:
    """The task of a plugin as lm-evaluation-harness takes one, its questions in memory.

    Raises:
        PluginError: it does not load, is no `TaskPlugin`, or several have its name.
    """
    found = find_plugin("tasks", name)
    assert found is not None
    task = require_plugin_type(found, found.load(), TaskPlugin)
    datasets: Any = require("datasets", extra="eval", purpose=PURPOSE)

    def read(**_metadata: Any) -> Any:
        return {
            split: datasets.Dataset.from_list([dict(row) for row in rows]) for split, rows in task.questions().items()
        }

    metadata = {"version": 1.0, **task.config.get("metadata", {}), "plugin": str(found)}
    return {**task.config, "task": name, "custom_dataset": read, "dataset_kwargs": {}, "metadata": metadata}


def is_file(name: str) -> bool:
    """Whether a name is that of a YAML file."""
    return name.endswith((".yaml", ".yml"))


def is_known(name: str, manager: Any) -> bool:
    """Whether there is a task, group, tag or file of this name.

    Raises:
        DataError: a YAML file that is not there.
    """
    if is_file(name):
        if not Path(name).is_file():
            raise DataError(f"there is no file {name}", hint=YAML_HINT)
        return True
    return name in manager.task_index


def set_examples(task: Any, num_fewshot: int | None) -> None:
    """The number of examples before a question, as the `lm_eval` command sets it."""
    own = task.get_config("num_fewshot")
    if num_fewshot is not None and own != 0:
        task.set_config(key="num_fewshot", value=num_fewshot)
    elif own is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=FEWSHOT_SEED)


def with_local_data(config: dict[str, Any], data_dir: Path, notes: dict[str, str]) -> dict[str, Any]:
    """A task that takes its questions from `data_dir`."""
    path, name = config["dataset_path"], config.get("dataset_name")
    if path in ENDINGS_OF_FILES:
        return config  # a task of one's own, which names its files
    local = local_dataset(data_dir, path, name)
    present = {key: config[key] for key in SPLITS if config.get(key) in local.splits}
    if not any(key in present for key in EVALUATED):
        wanted = " or ".join(str(config[key]) for key in EVALUATED if config.get(key))
        raise DataError(
            f"{local.folder} has the splits {', '.join(local.splits)}, and {config['task']} asks the questions of "
            f"{wanted}",
            hint=f"add the split {wanted} to the folder",
        )
    said = [local.note] if local.note else []
    first = next(config[key] for key in EVALUATED if config.get(key))
    if first not in local.splits:
        said.append(f"split {next(present[key] for key in EVALUATED if key in present)}, {first} is not in the copy")
    if said:
        notes[config["task"]] = "; ".join(said)
    splits = {key: present.get(key) for key in SPLITS if key in config}
    return {**config, **splits, "custom_dataset": from_memory(local), "dataset_kwargs": {}}


ENDINGS_OF_FILES = ("json", "csv", "parquet", "arrow", "text")
"""What `datasets` calls the readers of files."""


def from_memory(local: LocalDataset) -> Any:
    """What a task calls for its data; it is handed the task's metadata, which is nothing to it."""

    def read(**_metadata: Any) -> dict[str, Any]:
        return local.splits

    return read


def only_what_is_there(config: dict[str, Any], data_dir: Path, manager: Any, notes: dict[str, str]) -> dict[str, Any]:
    """A group of those sets that have a local copy; it must be one at least."""
    present: list[str] = []
    missing: DataError | None = None
    for member in config["task"]:
        entry = manager.task_index[member].cfg
        try:
            local_dataset(data_dir, entry["dataset_path"], entry.get("dataset_name"))
            present.append(member)
        except DataError as error:
            missing = error
    if not present and missing is not None:
        raise missing
    if missing is not None:
        notes[config["group"]] = f"{len(present)} of {len(config['task'])} sets, the others are not in {data_dir}"
    return {**config, "task": present}


def without_code(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names for lm-evaluation-harness, and those of benchmarks whose answers are programs."""
    return [name for name in names if name not in CODE], [name for name in names if name in CODE]
