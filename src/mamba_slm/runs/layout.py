"""Where everything of a run lies: one folder, plain files, readable by anybody at any time.

runs/20260401-nano/
    run.json        what was started, by which versions, on what; the plan and the outcome
    config.yaml     the resolved settings: model, train, data
    data.json       where the training text came from
    status.json     running | done | stopped | failed, with a heartbeat
    metrics.jsonl   one row per reported step, append-only
    samples.jsonl   what the model said to the same prompts, from step 0 on
    events.jsonl    what happened: spikes, resumes, skipped checkpoints
    before_after.json   what a fine-tuning or alignment changed, on the same held-out examples
    evaluation.json the model beside the baselines
    trackers.json   the run's id in TensorBoard, wandb and trackio, if it goes there
    notes.json      a remark and tags, written by whoever looks at the run
    log.txt         everything that was said
    report.md       the report card
    report.html     the same as a page with charts, in one file
    profile/        traces of single steps and tables of where their time went, if they were asked for
    tokenizer.json
    slurm/          script, logs and interruptions of a Slurm job
    checkpoints/    step-00000100/ …, and `best`: a text file that names one of them
    lock.json       who owns the folder right now
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from mamba_slm.core.errors import ConfigError, UnknownNameError, UsageError
from mamba_slm.core.files import write_text_atomic

CHECKPOINT_NAME = re.compile(r"step-(\d{8,})")
RUN_MARKS = ("run.json", "status.json", "metrics.jsonl")
"""A folder with one of these is a run, however little of it is left."""


def default_home() -> Path:
    """The folder of all runs: `$MAMBA_SLM_HOME`, else `runs` in the current folder."""
    return Path(os.environ.get("MAMBA_SLM_HOME") or "runs")


@dataclass(frozen=True)
class RunDirectory:
    """The paths of one run. `os.fspath(run)` and `Path(run)` give its folder. Existence is not checked here."""

    path: Path

    def __post_init__(self):
        object.__setattr__(self, "path", Path(self.path))

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> RunDirectory:
        """Make the folder, with its `checkpoints` folder, for a new run.

        Raises:
            UsageError: `path` is a file, or already holds a run.
        """
        run = cls(Path(path))
        if run.path.exists() and not run.path.is_dir():
            raise UsageError(f"{run.path} is a file, not a folder", hint="choose another folder for the run")
        if is_run(run.path):
            raise UsageError(
                f"{run.path} already holds a run",
                hint=f"continue it with --resume {run.path}, choose another folder, or look at it: "
                f"mamba-slm runs show {run.path}",
            )
        run.checkpoints_folder.mkdir(parents=True, exist_ok=True)
        return run

    @classmethod
    def create_new(cls, home: str | os.PathLike[str], name: str, *, date: str | None = None) -> RunDirectory:
        """Make `home/DATE-name`, with `-2`, `-3`, … when that is taken. Safe against a second process doing the same.

        Raises:
            ConfigError: `name` would leave `home` or hide the folder.
        """
        if not re.fullmatch(r"\w[\w.+-]*", name):
            raise ConfigError(f"{name!r} is not a usable run name", hint="use letters, digits, - _ . +")
        date = date or time.strftime("%Y%m%d")
        number = 1
        while True:
            path = Path(home) / (f"{date}-{name}" + (f"-{number}" if number > 1 else ""))
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                path.mkdir()
            except FileExistsError:
                number += 1
                continue
            return cls.create(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunDirectory:
        """The run at `path`, which must be there.

        Raises:
            UsageError: no such folder, or a folder that holds no run.
        """
        run = cls(Path(path))
        if not run.path.is_dir():
            raise UsageError(f"there is no run at {run.path}", hint="see what there is: mamba-slm runs list")
        if not is_run(run.path):
            raise UsageError(
                f"{run.path} holds no run (none of {', '.join(RUN_MARKS)})",
                hint="see what there is: mamba-slm runs list",
            )
        return run

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def record_file(self) -> Path:
        return self.path / "run.json"

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def data_file(self) -> Path:
        return self.path / "data.json"

    @property
    def status_file(self) -> Path:
        return self.path / "status.json"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def samples_file(self) -> Path:
        return self.path / "samples.jsonl"

    @property
    def benchmarks_file(self) -> Path:
        """Scores of benchmarks that were asked while training, one JSON line for each task."""
        return self.path / "benchmarks.jsonl"

    @property
    def events_file(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def evaluation_file(self) -> Path:
        return self.path / "evaluation.json"

    @property
    def log_file(self) -> Path:
        return self.path / "log.txt"

    @property
    def report_file(self) -> Path:
        return self.path / "report.md"

    @property
    def page_file(self) -> Path:
        return self.path / "report.html"

    @property
    def tokenizer_file(self) -> Path:
        return self.path / "tokenizer.json"

    @property
    def lock_file(self) -> Path:
        return self.path / "lock.json"

    @property
    def stop_file(self) -> Path:
        return self.path / "control" / "stop"

    @property
    def asked_file(self) -> Path:
        """Which owner was last asked to stop, so that asking twice does not abort it."""
        return self.path / "control" / "asked"

    @property
    def checkpoints_folder(self) -> Path:
        return self.path / "checkpoints"

    def checkpoint_folder(self, step: int) -> Path:
        """Where the checkpoint after `step` optimizer steps belongs."""
        return self.checkpoints_folder / f"step-{step:08d}"

    def checkpoints(self) -> list[Path]:
        """The checkpoint folders, lowest step first. Temporary and foreign names are left out."""
        if not self.checkpoints_folder.is_dir():
            return []
        found = [entry for entry in self.checkpoints_folder.iterdir() if CHECKPOINT_NAME.fullmatch(entry.name)]
        return sorted((entry for entry in found if entry.is_dir()), key=step_of)

    def latest(self) -> Path | None:
        """The checkpoint of the highest step; whether it is intact is for its reader to check."""
        folders = self.checkpoints()
        return folders[-1] if folders else None

    @property
    def best_file(self) -> Path:
        """A text file with the name of the best checkpoint's folder (a link would not survive every copy)."""
        return self.checkpoints_folder / "best"

    def mark_best(self, step: int) -> None:
        """Name the checkpoint of `step` the best one, in one atomic write."""
        write_text_atomic(self.best_file, self.checkpoint_folder(step).name + "\n")

    def best(self) -> Path | None:
        """The checkpoint named best; None when none is named or it is gone."""
        if not self.best_file.is_file():
            return None
        name = self.best_file.read_text(encoding="utf-8").strip()
        folder = self.checkpoints_folder / name
        return folder if CHECKPOINT_NAME.fullmatch(name) and folder.is_dir() else None


def step_of(checkpoint: Path) -> int:
    """The step in a checkpoint folder's name.

    >>> step_of(Path("checkpoints/step-00000100"))
    100

    Raises:
        UsageError: not a checkpoint folder's name.
    """
    match = CHECKPOINT_NAME.fullmatch(checkpoint.name)
    if match is None:
        raise UsageError(f"{checkpoint} is not a checkpoint folder", hint="their names look like step-00000100")
    return int(match[1])


def is_run(path: str | os.PathLike[str]) -> bool:
    """Whether the folder holds a run."""
    return any((Path(path) / name).is_file() for name in RUN_MARKS)


def list_runs(home: str | os.PathLike[str] | None = None) -> list[RunDirectory]:
    """The runs directly inside `home`, by name (names begin with the date); empty when `home` does not exist."""
    folder = default_home() if home is None else Path(home)
    if not folder.is_dir():
        return []
    return [RunDirectory(entry) for entry in sorted(folder.iterdir()) if entry.is_dir() and is_run(entry)]


def find_run(name: str, home: str | os.PathLike[str] | None = None) -> RunDirectory:
    """The run that `name` means: a folder's path, else a run's name inside `home`.

    Raises:
        UnknownNameError: neither; names the nearest run.
        UsageError: a folder that holds no run.
    """
    folder = default_home() if home is None else Path(home)
    for candidate in (Path(name), folder / name):
        if is_run(candidate):
            return RunDirectory(candidate)
    if Path(name).is_dir():
        return RunDirectory.open(name)
    known = [run.name for run in list_runs(folder)]
    hint = None if known else f"there are no runs in {folder}; start one: mamba-slm quickstart"
    raise UnknownNameError("run", name, known, hint=hint)
