"""The report cards of a run, with what only the code of the settings knows: defaults, sizes, memory by context.

Imports no torch.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mamba_slm.core.config import fields_of, from_dict, to_dict
from mamba_slm.core.errors import MambaSlmError
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import count_parameters, state_bytes
from mamba_slm.model.pattern import ATTENTION, MAMBA
from mamba_slm.model.presets import SIZES, preset
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.report import write_html, write_report
from mamba_slm.runs.report_page_tables import SettingsFacts
from mamba_slm.runs.summary import flat_settings
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.presets import TRAIN_PRESETS

CONTEXTS = (2048, 8192, 32_768, 131_072)


def explain_settings(config: Mapping[str, Any]) -> SettingsFacts:
    """What follows from the settings of a run (config.yaml): defaults, sizes; what cannot be read is left out."""
    train, model = config.get("train"), config.get("model")
    name = train.get("model") if isinstance(train, Mapping) else None
    defaults = {"train": to_dict(TrainConfig())}
    if isinstance(name, str) and name in TRAIN_PRESETS and name in SIZES:
        defaults["train"] |= {"model": name, **TRAIN_PRESETS[name]}
        defaults["model"] = to_dict(preset(name))
    facts = SettingsFacts(
        defaults=flat_settings(defaults), defaults_of=f"preset {name}" if "model" in defaults else "the package"
    )
    try:
        sizes = from_dict(ModelConfig, known_fields(model), where="config.yaml")
    except MambaSlmError:
        return facts
    return dataclasses.replace(
        facts,
        parameters={part: count for part, count in dataclasses.asdict(count_parameters(sizes)).items() if count},
        context_memory=context_memory(sizes),
    )


def known_fields(settings: Any) -> dict[str, Any]:
    """The settings that a `ModelConfig` has; a later version may have written more."""
    names = {setting.name for setting in fields_of(ModelConfig)}
    return {key: value for key, value in settings.items() if key in names} if isinstance(settings, Mapping) else {}


def context_memory(config: ModelConfig) -> tuple[tuple[int, int, int], ...]:
    """Context, bytes of one conversation, bytes with attention in place of every Mamba-2 layer; () without such."""
    if MAMBA not in config.pattern:
        return ()
    twin = dataclasses.replace(config, pattern=config.pattern.replace(MAMBA, ATTENTION))
    return tuple((tokens, state_bytes(config, tokens), state_bytes(twin, tokens)) for tokens in CONTEXTS)


def write_report_cards(run: str | os.PathLike[str], *, say: Callable[[str], None]) -> list[Path]:
    """Write report.md and report.html of a run that has ended; returns those that were written.

    The run counts more than what is said about it: whatever goes wrong here is said, and raises nothing.
    """
    directory, written = RunDirectory(Path(run)), []
    for write in (write_report, lambda run: write_html(run, explain=explain_settings)):
        try:
            written.append(write(directory))
        except Exception as error:
            what = error.message if isinstance(error, MambaSlmError) else f"{type(error).__name__}: {error}"
            say(f"a report card could not be written: {what}; try again: mamba-slm report {directory.path}")
    return written
