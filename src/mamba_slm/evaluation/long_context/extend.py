"""A trained model, made for a longer context: positions stretched, a short training, measured before and after."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mamba_slm.core.errors import CheckFailedError, ConfigError, DataError
from mamba_slm.core.files import write_json_atomic, write_text_atomic
from mamba_slm.data.shards import TokenShards
from mamba_slm.evaluation.long_context.by_position import Stretch, borders, long_rows, loss_by_position
from mamba_slm.evaluation.long_context.picture import picture
from mamba_slm.model.checkpoint import load_config, load_model, resolve_model_folder
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.quantized import require_float
from mamba_slm.model.stretch import Method, stretched, trained_context_tokens
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.prepare import PreparedData
from mamba_slm.training.run import prepare_config_data, train

RESULT_FILE, PICTURE_FILE = "extend.json", "extend.svg"
MEASURED_TOKENS = 65_536
"""Held-out tokens that are read for each curve, at least one row."""


@dataclass(frozen=True, kw_only=True)
class Extension:
    """What became of a model."""

    run: str
    """The run directory; the extended model is its `model/`."""

    method: str
    trained_tokens: int
    """Context that the model was trained with before."""
    context_tokens: int
    """Context that it is made for now."""
    training_tokens: int
    how: str
    """What was measured on."""
    curves: dict[str, list[Stretch]]
    """Loss by position: as it was, stretched, and stretched and trained."""

    def improvement(self) -> float:
        """How much lower the loss beyond the trained context is now, in nats per token."""
        return beyond(self.curves["before"], self.trained_tokens) - beyond(self.curves["after"], self.trained_tokens)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"format_version": 1, **dataclasses.asdict(self), "improvement_nats": self.improvement()}


def beyond(curve: Sequence[Stretch], trained_tokens: int) -> float:
    """Mean loss of the positions behind the trained context."""
    far = [stretch for stretch in curve if stretch.start >= trained_tokens]
    return sum(stretch.loss * stretch.num_tokens for stretch in far) / sum(stretch.num_tokens for stretch in far)


def extend(
    model: Path | str,
    config: TrainConfig,
    *,
    context_tokens: int,
    method: Method = "yarn",
    run: str | os.PathLike[str] | None = None,
    command: Sequence[str] | None = None,
    say: Callable[[str], None] = print,
) -> Extension:
    """Train `model` on rows of `context_tokens` with stretched positions; write what changed into the run directory.

    Args:
        model: model folder, checkpoint or run.
        config: how and on what to train; `initial`, `context_tokens` and the model's settings are set here.
        context_tokens: what the model shall be able to read.
        method: see `model.stretch.stretched`.
        run: the run directory; None makes a new one.

    Raises:
        ConfigError: the model has that context already, or positions that cannot be stretched.
        DataError: too little text to measure, or none held out.
        CheckFailedError: the training was stopped before its end; the run can be resumed.
    """
    folder = resolve_model_folder(model)
    require_float(folder, purpose="training")
    old = load_config(folder)
    trained = trained_context_tokens(old)
    new = longer(old, context_tokens, method, folder)
    config = dataclasses.replace(
        config, initial=str(folder), context_tokens=context_tokens, model_settings=settings_of(old, new),
        batch_tokens=math.ceil(config.batch_tokens / context_tokens) * context_tokens,
    )  # fmt: skip
    rows: list[np.ndarray] = []
    how = ""
    curves: dict[str, list[Stretch]] = {}
    edges = borders(trained, context_tokens)

    def prepare(directory: RunDirectory) -> PreparedData:
        """Make the data, and measure the model as it is before anything is trained."""
        nonlocal how
        prepared = prepare_config_data(config, directory, say)
        found, how = long_rows(
            held_out(prepared.validation),
            context_tokens=context_tokens,
            max_rows=max(1, MEASURED_TOKENS // context_tokens),
        )
        rows.extend(found)
        say(f"measuring by position before training: {how}")
        curves["before"] = loss_by_position(
            load_model(folder, change=lambda _: longer(old, context_tokens, "none", folder)), rows, edges
        )
        if new.rope_scaling != "none":
            curves["stretched"] = loss_by_position(load_model(folder, change=lambda _: new), rows, edges)
        return prepared

    result = train(config, run=run, prepare=prepare, kind="extend", command=command, say=say)
    if result.interrupted:
        raise CheckFailedError(
            f"stopped after {result.tokens:,} tokens, before the end; {result.run} holds everything",
            hint=f"mamba-slm train --resume {result.run}",
        )
    directory = RunDirectory.open(result.run)
    curves["after"] = loss_by_position(load_model(directory.path), rows, edges)
    extension = Extension(
        run=str(directory.path), method=new.rope_scaling if old.position == "rope" else old.position,
        trained_tokens=trained, context_tokens=context_tokens, training_tokens=result.tokens, how=how, curves=curves,
    )  # fmt: skip
    write_json_atomic(directory.path / RESULT_FILE, extension.to_dict())
    write_text_atomic(directory.path / PICTURE_FILE, drawn(extension))
    return extension


def longer(config: ModelConfig, context_tokens: int, method: Method, folder: Path) -> ModelConfig:
    """`stretched`, with an error where there is nothing to do."""
    if context_tokens <= config.max_context_tokens:
        raise ConfigError(
            f"{folder} is made for {config.max_context_tokens:,} tokens already",
            hint=f"--to 4x, or more than {config.max_context_tokens:,}",
        )
    return stretched(config, context_tokens, method)


def settings_of(old: ModelConfig, new: ModelConfig) -> tuple[str, ...]:
    """What differs, as `TrainConfig.model_settings` says it."""
    before, after = dataclasses.asdict(old), dataclasses.asdict(new)
    return tuple(f"{name}={value}" for name, value in after.items() if value != before[name])


def held_out(validation: TokenShards | None) -> list[np.ndarray]:
    """The documents that are not trained on.

    Raises:
        DataError: there are none.
    """
    if validation is None:
        raise DataError("no text is held out to measure on", hint="--validation-share 0.05, or --validation PATH")
    return [validation.document(number) for number in range(validation.num_documents)]


def drawn(extension: Extension) -> str:
    """The curves as SVG."""
    names = {"before": "before", "stretched": "stretched", "after": "stretched and trained"}
    curves = {
        names[name]: [((stretch.start + stretch.end) / 2, stretch.loss) for stretch in curve]
        for name, curve in extension.curves.items()
    }
    title = f"{extension.trained_tokens:,} to {extension.context_tokens:,} tokens by {extension.method}"
    return picture(
        curves, title=title, x_label="position in the text (tokens)", y_label="loss, nats per token", from_zero=False
    )
