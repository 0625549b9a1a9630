"""Several formats and methods of one model side by side, on the same text, each written, opened again and measured."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.model.checkpoint import load_config, resolve_model_folder
from mamba_slm.model.quantization import PLANS, Quantization
from mamba_slm.model.quantized import require_float
from mamba_slm.quantization.config import QuantizeConfig
from mamba_slm.quantization.folder import Progress, Quantizing, begin, calibration_text, measure_folder, write_folder
from mamba_slm.quantization.plan import plan_for
from mamba_slm.quantization.report import Report

INT4_METHODS = ("gptq", "hqq")
"""Names that mean int4 by that method."""
SEPARATOR = ":"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The formats in the order in which they were asked for."""

    model: str
    text: str
    calibration: str | None
    num_tokens: int
    perplexity: float
    """Of the original."""
    bfloat16_bytes: int
    reports: dict[str, Report]
    """By name."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "format_version": 1,
            "model": self.model,
            "measured_on": self.text,
            "calibrated_on": self.calibration,
            "num_tokens": self.num_tokens,
            "perplexity": self.perplexity,
            "bfloat16_bytes": self.bfloat16_bytes,
            "formats": {name: report.to_dict() for name, report in self.reports.items()},
        }


def parse_compared(text: str) -> dict[str, tuple[str, str]]:
    """Names between commas to (format, method): FORMAT, FORMAT:METHOD, or gptq and hqq for int4 by these methods.

    >>> parse_compared("int8,gptq,mixed:hqq")
    {'int8': ('int8', 'nearest'), 'gptq': ('int4', 'gptq'), 'mixed:hqq': ('mixed', 'hqq')}

    Raises:
        ConfigError: nothing to compare; UnknownNameError for an unknown format or method.
    """
    names = dict.fromkeys(piece.strip() for piece in text.split(",") if piece.strip())
    if not names:
        raise ConfigError("nothing to compare", hint="--compare int8,int4,nf4,fp4,gptq")
    found = {}
    for name in names:
        form, _, method = name.partition(SEPARATOR)
        if form in INT4_METHODS and not method:
            form, method = "int4", form
        if form not in PLANS:
            raise UnknownNameError("format", form, [*PLANS, *INT4_METHODS])
        if method not in ("", "nearest", *INT4_METHODS):
            raise UnknownNameError("quantization method", method, ["nearest", *INT4_METHODS])
        found[name] = (form, method or "nearest")
    return found


def compare_formats(
    path: Path | str,
    names: str,
    config: QuantizeConfig,
    *,
    kernels: bool = False,
    say: Callable[[str], None] = lambda _: None,
    progress: Progress = lambda *_: None,
) -> Comparison:
    """Quantize the model at `path` in every way that `names` lists; nothing is kept but the numbers.

    Args:
        names: see `parse_compared`.
        kernels: see `quantize_folder`.
        config: blocks, texts and what is measured; `to` and `method` come from the names.

    Raises:
        UsageError: the model is quantized already. Else as `quantize_folder`.
    """
    wanted = parse_compared(names)
    folder = resolve_model_folder(path)
    require_float(folder, purpose="quantizing")
    model_config = load_config(folder)
    plans = {name: plan_of(config, form, method, model_config) for name, (form, method) in wanted.items()}
    first = next((plan for plan in plans.values() if plan.method == "gptq"), next(iter(plans.values())))
    config = replace(config, sensitivity="none", max_drop=None)
    work = begin(folder, config, first, kernels=kernels, say=say, progress=progress)
    reports = {}
    for name, plan in plans.items():
        say(f"{name}: {plan}, {plan.method}")
        reports[name] = measured(replace(work, plan=plan, seconds={}), name, say)
    any_report = next(iter(reports.values()))
    return Comparison(
        model=str(folder),
        text=work.measured.what,
        calibration=None if work.calibration is None else calibration_text(work.calibration),
        num_tokens=work.reference.num_tokens,
        perplexity=work.reference.perplexity,
        bfloat16_bytes=any_report.size.bfloat16_bytes,
        reports=reports,
    )


def plan_of(config: QuantizeConfig, form: str, method: str, model: Any) -> Quantization:
    """One of the compared; zero points are left out where the format has none."""
    asymmetric = config.asymmetric and form not in ("nf4", "fp4")
    return replace(plan_for(replace(config, to=form, method="nearest", asymmetric=asymmetric), model), method=method)


def measured(work: Quantizing, name: str, say: Callable[[str], None]) -> Report:
    """One format, written to a temporary folder and opened again."""
    with tempfile.TemporaryDirectory(prefix="mamba-slm-quantize-") as temporary:
        write_folder(Path(temporary), work, work.matrices(work.plan))
        return measure_folder(Path(temporary), work, name=name, say=lambda _: None)
