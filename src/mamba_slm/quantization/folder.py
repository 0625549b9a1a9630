"""A model folder to a quantized one: planned, quantized, opened again and measured, and only then put in its place."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mamba_slm import __version__
from mamba_slm.core.errors import CheckFailedError, CheckpointError, DataError
from mamba_slm.core.output import new_output, require_free
from mamba_slm.generation.loading import load
from mamba_slm.generation.runtime import RuntimeSettings
from mamba_slm.model.checkpoint import WEIGHTS_FILE, load_config, load_model, resolve_model_folder
from mamba_slm.model.count import count_parameters
from mamba_slm.model.packed import PackedModel
from mamba_slm.model.quantization import Quantization
from mamba_slm.model.quantized import require_float, save_quantized
from mamba_slm.model.stack import LanguageModel
from mamba_slm.model.trained_for import trained_for
from mamba_slm.quantization.config import QuantizeConfig
from mamba_slm.quantization.gptq import GptqConfig
from mamba_slm.quantization.limit import proposal
from mamba_slm.quantization.measure import Reference
from mamba_slm.quantization.plan import plan_for, planned_size, unfitting
from mamba_slm.quantization.quantize import Matrices, quantize_model
from mamba_slm.quantization.report import Report, Size, write_report
from mamba_slm.quantization.sensitivity import Sensitivity, measure_sensitivity
from mamba_slm.quantization.speed import Speed, measure_speed
from mamba_slm.quantization.texts import Tokens, texts_for
from mamba_slm.text.tokenizer import FILE_NAME, Tokenizer

COPIED_FILES = (FILE_NAME, "tokenizer_config.json", "generation_config.json", "chat_template.jinja")
"""Taken along where they are there."""
LARGE_KL = 0.05
"""Nats per token above which the report warns: for its users that is another model."""
BF16_NAME = "the original in bfloat16"
Progress = Callable[[str, int, int, str], None]
"""(what goes on, done, all, what comes next)."""


class DropTooLargeError(CheckFailedError):
    """The perplexity rose by more than was allowed; nothing was kept."""

    def __init__(self, report: Report, message: str, *, hint: str):
        super().__init__(message, hint=hint)
        self.report = report


@dataclass(kw_only=True)
class Quantizing:
    """A model on its way, with all that is measured once."""

    folder: Path
    config: QuantizeConfig
    model: LanguageModel
    """The original, float32."""
    tokenizer: Tokenizer
    plan: Quantization
    measured: Tokens
    calibration: Tokens | None
    reference: Reference
    kernels: bool
    """Whether the speed is measured with compiled kernels and the compiled step."""
    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Note how long something took."""
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def matrices(self, plan: Quantization) -> Matrices:
        """All matrices by a plan."""
        rows = () if self.calibration is None else self.calibration.rows
        with self.timed("quantizing"):
            return quantize_model(
                self.model,
                plan,
                calibration=rows,
                gptq_config=GptqConfig(damp=self.config.damp, act_order=self.config.act_order),
                progress=lambda *done: self.progress("quantizing", *done),
            )

    def shorter_reference(self) -> Reference:
        """What the original predicts on as many of the tokens as are read for each part alone."""
        rows, left = [], self.config.sensitivity_tokens
        for row in self.reference.rows:
            rows.append(row[:left])
            left -= len(rows[-1])
            if left < 2:
                break
        return Reference(self.model, rows)

    def sensitivity(self) -> Sensitivity | None:
        """Each part alone, where that is asked for."""
        if self.config.sensitivity == "none":
            return None
        with self.timed("parts alone"):
            return measure_sensitivity(
                self.model,
                self.shorter_reference(),
                self.plan,
                each_matrix=self.config.sensitivity == "matrices",
                progress=lambda *done: self.progress("measuring", *done),
            )


def quantize_folder(
    path: Path | str,
    out: Path,
    config: QuantizeConfig,
    *,
    overwrite: bool = False,
    kernels: bool = False,
    say: Callable[[str], None] = lambda _: None,
    progress: Progress = lambda *_: None,
) -> Report:
    """Quantize the model at `path` into the folder `out`, with report.json and report.html in it.

    Args:
        path: run directory, checkpoint or model folder.
        kernels: whether the speed is measured with what must be compiled for this machine first.
        say: is told choices that were not asked for, and what is going on.

    Raises:
        UsageError: quantized already, no format, or `out` exists.
        DataError: no model, no tokenizer, or a text that cannot be read.
        DropTooLargeError: `config.max_drop` is passed; names parts to keep. Nothing is left.
        CheckFailedError: the folder does not compute what was measured in memory; nothing is left.
    """
    folder = resolve_model_folder(path)
    require_float(folder, purpose="quantizing")
    model_config = load_config(folder)
    plan = plan_for(config, model_config, trained_for=trained_for(folder), say=say)
    require_free(out, overwrite=overwrite)
    for name, why in unfitting(plan, model_config).items():
        say(f"{name} {why}")
    work = begin(folder, config, plan, kernels=kernels, say=say, progress=progress)
    matrices = work.matrices(plan)
    needed = planned_size(plan, model_config).num_bytes
    with new_output(out, needed_bytes=needed, overwrite=overwrite) as temporary:
        write_folder(temporary, work, matrices)
        del matrices
        report = measure_folder(temporary, work, name=out.name, say=say)
        if not report.is_within:
            raise too_large(work, report, say)
        write_report(report, temporary)
    return report


def begin(
    folder: Path,
    config: QuantizeConfig,
    plan: Quantization,
    *,
    kernels: bool,
    say: Callable[[str], None],
    progress: Progress,
) -> Quantizing:
    """Read the model and the texts, and what the original predicts."""
    if not (folder / FILE_NAME).is_file():
        raise DataError(
            f"{folder} has no {FILE_NAME}", hint=f"copy the {FILE_NAME} that the model was trained with into the folder"
        )
    tokenizer = Tokenizer.load(folder)
    model = load_model(folder)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise CheckpointError(
            f"{folder} holds a tokenizer of {tokenizer.vocab_size} tokens, but a model of {model.config.vocab_size}",
            hint=f"copy the {FILE_NAME} that the model was trained with into the folder",
        )
    measured, calibration = texts_for(model, tokenizer, folder, config, is_calibrated=plan.method == "gptq", say=say)
    started = time.perf_counter()
    reference = Reference(model, measured.rows)
    if reference.num_tokens < measured.num_tokens - len(measured.rows):
        say(f"only {reference.num_tokens:,} tokens are measured: more would not fit into memory")
    work = Quantizing(
        folder=folder, config=config, model=model, tokenizer=tokenizer, plan=plan, measured=measured,
        calibration=calibration, reference=reference, kernels=kernels, progress=progress,
    )  # fmt: skip
    work.seconds["the original"] = time.perf_counter() - started
    return work


def write_folder(folder: Path, work: Quantizing, matrices: Matrices) -> None:
    """Weights, config, tokenizer."""
    save_quantized(folder, work.model.config, matrices, work.model.state_dict(), work.plan)
    for name in COPIED_FILES:
        if (work.folder / name).is_file():
            shutil.copyfile(work.folder / name, folder / name)


def measure_folder(folder: Path, work: Quantizing, *, name: str, say: Callable[[str], None]) -> Report:
    """Open what was written, and measure it."""
    say("opening it and comparing with the original")
    quantized = load_model(folder)
    assert isinstance(quantized, PackedModel)
    with work.timed("the result"):
        quality = work.reference.quality_of(quantized)
    planned = planned_size(work.plan, work.model.config)
    size = Size(
        file_bytes=(folder / WEIGHTS_FILE).stat().st_size,
        memory_bytes=quantized.num_bytes,
        bfloat16_bytes=planned.bfloat16_bytes,
        bits_per_weight=planned.bits_per_weight,
    )
    sensitivity = work.sensitivity()
    speed = None
    if work.config.speed:
        with work.timed("speed"):
            speed = speed_of(work.folder, folder, kernels=work.kernels, say=say)
    remarks = []
    if quality.mean_kl > LARGE_KL:
        remarks.append(
            f"a KL above {LARGE_KL} nats is another model for its users: smaller blocks, --method gptq with "
            "calibration text, parts in 8 bits or int8 lower it"
        )
    if speed is not None and speed.decode_ratio < 1:
        remarks.append(
            f"decoding is slower than in bfloat16 here, {speed.decode_ratio:.2f} of it: it saves memory only"
        )
    return Report(
        model=str(work.folder),
        parameters=count_parameters(work.model.config).total,
        pattern=work.model.config.pattern,
        to=str(work.plan),
        method=work.plan.method,
        plan=work.plan.to_json(),
        text=work.measured.what,
        calibration=None if work.calibration is None else calibration_text(work.calibration),
        size=size,
        quality=quality,
        speed=speed,
        parts=() if sensitivity is None else worst_first(sensitivity),
        matrices=() if sensitivity is None else sensitivity.matrices,
        unquantized=unfitting(work.plan, work.model.config),
        max_drop=work.config.max_drop,
        seconds=dict(work.seconds),
        versions={"mamba-slm": __version__, "torch": torch.__version__},
        remarks=tuple(remarks),
    )


def calibration_text(calibration: Tokens) -> str:
    """What was calibrated with."""
    return f"{calibration.num_tokens:,} tokens of {calibration.what}"


def worst_first(sensitivity: Sensitivity) -> tuple[Any, ...]:
    """The parts, the one that costs most first."""
    return tuple(sorted(sensitivity.parts, key=lambda part: -part.quality.mean_kl))


def speed_of(original: Path, quantized: Path, *, kernels: bool, say: Callable[[str], None]) -> Speed:
    """Both as `mamba-slm generate` runs them, in turns."""
    before = load(original, settings=RuntimeSettings(weights="bfloat16", kernels=kernels, say=say)).runtime
    after = load(quantized, settings=RuntimeSettings(kernels=kernels, say=say)).runtime
    return measure_speed(before, after, name_before=BF16_NAME)


def too_large(work: Quantizing, report: Report, say: Callable[[str], None]) -> DropTooLargeError:
    """The error, with what would be within the limit, measured."""
    assert work.config.max_drop is not None
    say("beyond the limit: looking for parts to keep in 8 bits")
    found = proposal(work, report)
    change, limit = report.quality.perplexity_change, work.config.max_drop
    return DropTooLargeError(
        report,
        f"the perplexity rises by {change:.2%}, more than the {limit:.2%} that --max-drop allows; nothing was written",
        hint=found,
    )
