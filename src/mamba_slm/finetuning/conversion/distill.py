"""One call that converts a Llama and lets the hybrid learn from it: a run directory like that of `train`.

RUN/start/           the hybrid before its first step
RUN/conversion.json  where it came from, how it learns, and what was measured
RUN/model/           the finished hybrid
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mamba_slm.core.config import from_dict, to_dict
from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.core.files import write_json_atomic
from mamba_slm.core.units import format_bytes
from mamba_slm.finetuning.conversion.convert import CONVERSION_FILE, convert
from mamba_slm.finetuning.conversion.distillation import Distillation
from mamba_slm.finetuning.conversion.shape import HybridShape
from mamba_slm.finetuning.conversion.source import load_llama
from mamba_slm.finetuning.conversion.student import FollowsTokens, Student
from mamba_slm.model.checkpoint import load_model
from mamba_slm.model.stack import LanguageModel
from mamba_slm.runs.layout import RunDirectory, is_run
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.hooks import Hook
from mamba_slm.training.kernels import kernels_in_use
from mamba_slm.training.opening import has_not_begun
from mamba_slm.training.precision import Precision, choose_device, choose_precision
from mamba_slm.training.prepare import PreparedData
from mamba_slm.training.reports import TrainResult
from mamba_slm.training.run import CONVERT, prepare_config_data, train, validation_of
from mamba_slm.training.validation import validate

START_FOLDER = "start"
ONLY_DISTILLED = "only runs of mamba-slm convert --distill have a teacher"
TEMPLATE_FILE = "chat_template.jinja"


@dataclass(frozen=True, kw_only=True)
class Distilled:
    """How it ended. Losses are in nats per held-out token, of the same tokens for all three."""

    result: TrainResult
    teacher_loss: float | None
    start_loss: float | None
    loss: float | None
    """Of the model that the run left."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        losses = {"teacher": self.teacher_loss, "start": self.start_loss, "hybrid": self.loss}
        return {
            "losses": losses,
            "perplexities": {name: None if loss is None else math.exp(loss) for name, loss in losses.items()},
        }


def distill(
    source: Path | str,
    config: TrainConfig,
    run: str | os.PathLike[str],
    *,
    shape: HybridShape | None = None,
    distillation: Distillation | None = None,
    hooks: Sequence[Hook] = (),
    command: Sequence[str] | None = None,
    say: Callable[[str], None] = print,
) -> Distilled:
    """Convert the Llama at `source` and train the hybrid on `config.data` by what the Llama says about it.

    Args:
        config: how and on what to train; `initial` and the model's settings are set here. `distillation.TRAINING` has
            what begins otherwise than in `train`.
        run: the run directory.
        shape: which layers keep their attention, and the sizes of the others.
        distillation: how it learns.
        hooks: as of `train`.

    Raises:
        ConfigError, DataError, CheckpointError: see `convert` and `training.run.train`.
        UsageError: `run` holds a run already.
    """
    directory = RunDirectory(Path(run))
    if is_run(directory.path) and not has_not_begun(directory):
        RunDirectory.create(directory.path)  # says what is in the way
    distillation = distillation or Distillation()
    require_length(config, distillation)
    start = directory.path / START_FOLDER
    converted = convert(source, start, shape=shape, seed=config.seed, overwrite=True, say=say)
    record = {
        **converted.to_dict(),
        "source": str(Path(source).resolve()),
        "shape": to_dict(shape or HybridShape()),
        "distillation": to_dict(distillation),
    }
    write_json_atomic(directory.path / CONVERSION_FILE, record)
    config = dataclasses.replace(config, initial=str(start.resolve()), model=start.name)
    return follow_teacher(directory, config, is_resumed=False, hooks=hooks, command=command, say=say)


def resume_distillation(
    run: str | os.PathLike[str],
    config: TrainConfig,
    *,
    hooks: Sequence[Hook] = (),
    command: Sequence[str] | None = None,
    say: Callable[[str], None] = print,
) -> Distilled:
    """Go on with a run of `distill`.

    Args:
        config: that of the run (`training.run_config.read_train_config`), perhaps with another limit.

    Raises:
        DataError: no such run.
    """
    return follow_teacher(RunDirectory.open(run), config, is_resumed=True, hooks=hooks, command=command, say=say)


def follow_teacher(
    directory: RunDirectory,
    config: TrainConfig,
    *,
    is_resumed: bool,
    hooks: Sequence[Hook],
    command: Sequence[str] | None,
    say: Callable[[str], None],
) -> Distilled:
    """Train; measure the teacher and the start before, on the same held-out rows."""
    record = read_conversion(directory)
    distillation = from_dict(Distillation, record["distillation"], where=CONVERSION_FILE)
    students: list[Student] = []

    def teacher_on(device: str, precision: str) -> LanguageModel:
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        return load_llama(record["source"], device=device, dtype=dtype)

    def prepare(run: RunDirectory) -> PreparedData:
        prepared = prepare_config_data(config, run, say)
        if "losses" not in record and prepared.validation is not None:
            device = choose_device(config.device).value
            precision = choose_precision(config.precision, device).value
            chosen = dataclasses.replace(config, device=device, precision=precision)
            batches = validation_of(prepared, chosen)
            assert batches is not None
            with kernels_in_use(config.kernels, device, lambda line: None):
                teacher = held_out_loss(teacher_on(device, precision), batches(), chosen)
                start = held_out_loss(load_model(str(config.initial), device=device), batches(), chosen)
            record["losses"] = {"teacher": teacher, "start": start}
            write_json_atomic(run.path / CONVERSION_FILE, record)
            say(f"held out: loss {teacher:.3f} of the teacher, {start:.3f} of the hybrid before training")
        return prepared

    def adapt(model: LanguageModel, settings: TrainConfig) -> Student:
        teacher = teacher_on(settings.device, settings.precision)
        held = sum(parameter.numel() * parameter.element_size() for parameter in teacher.parameters())
        say(f"teacher: {record['source']}, {format_bytes(held)} besides the estimate, one more forward pass per step")
        align_tokens = round(distillation.align_share * require_length(settings, distillation))
        students.append(Student.begin(model, teacher, distillation, align_tokens=align_tokens))
        return students[0]

    result = train(
        config,
        run=directory.path,
        resume=is_resumed,
        prepare=prepare,
        adapt=adapt,
        hooks=[FollowsTokens(lambda: students[0], say), *hooks],
        kind=CONVERT,
        command=command,
        say=say,
    )
    losses = record.get("losses", {})
    found = Distilled(
        result=result,
        teacher_loss=losses.get("teacher"),
        start_loss=losses.get("start"),
        loss=result.best_validation_loss,
    )
    if not result.interrupted:
        write_json_atomic(directory.path / CONVERSION_FILE, record | found.to_dict() | {"tokens": result.tokens})
        template = directory.path / START_FOLDER / TEMPLATE_FILE
        if template.is_file():
            shutil.copyfile(template, directory.path / "model" / TEMPLATE_FILE)
    return found


def require_length(config: TrainConfig, distillation: Distillation) -> int:
    """Tokens of the run; 0 where nobody needs to know.

    Raises:
        ConfigError: the first stage is a share of the run, and the run's length is a time.
    """
    if config.limit_tokens is None and config.max_minutes is not None and distillation.align_share > 0:
        raise ConfigError(
            "align_share is a share of the run's tokens, and the run ends by max_minutes",
            hint="give --max-tokens or --max-steps, or --align-share 0",
        )
    return config.limit_tokens or 0


def held_out_loss(model: LanguageModel, batches: Iterable[Any], config: TrainConfig) -> float:
    """Mean loss in nats per token, as the run measures it."""
    measured = validate(
        model,
        batches,
        rows_at_once=config.rows_at_once,
        precision=Precision(config.precision, config.device),  # type: ignore[arg-type]
        device=config.device,
    )
    assert measured is not None
    return measured[0]


def read_conversion(run: RunDirectory) -> dict[str, Any]:
    """RUN/conversion.json.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    path = run.path / CONVERSION_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        missing = {"source", "distillation"} - record.keys()
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{path} cannot be read: {error!r}", hint=ONLY_DISTILLED) from error
    if missing:
        raise DataError(f"{path} has no {sorted(missing)[0]}", hint=ONLY_DISTILLED)
    return record
