"""`mamba-slm export onnx`: write, check in ONNX Runtime, measure what rounding changed, and only then show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mamba_slm.core.files import write_json_atomic
from mamba_slm.core.optional import require
from mamba_slm.core.output import new_output, require_free
from mamba_slm.core.units import format_bytes
from mamba_slm.export.onnx.build import build_graph, save_graph
from mamba_slm.export.onnx.check import CheckResult, check_graph
from mamba_slm.export.onnx.contract import graph_path
from mamba_slm.export.onnx.folder import write_beside_graphs
from mamba_slm.export.onnx.graph import PURPOSE
from mamba_slm.export.onnx.plan import WeightPlan, plan_weights
from mamba_slm.export.onnx.report import REPORT_FILE, QuantizationReport, measure_quantization, report_sequences
from mamba_slm.export.onnx.runner import OnnxRunner
from mamba_slm.export.onnx.stored import plan_for
from mamba_slm.export.probes import random_sequences, text_sequences
from mamba_slm.export.source import Source, open_source
from mamba_slm.model.checkpoint import load_config, resolve_model_folder
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import count_parameters
from mamba_slm.model.onnx_contract import Form, OnnxContract, Weights
from mamba_slm.model.pattern import require_own_letters
from mamba_slm.model.quantized import is_quantized

CHECKED_LENGTHS = (5, 1, 65, 200)
"""Tokens of the random sequences: one, and several chunks of the portable form with a rest."""
CHECKED_TEXT_TOKENS = 96
BYTES_PER_WEIGHT = {"fp32": 4.0, "int8": 1.0, "int4": 0.75}
SPARE_BYTES = 4 << 20
AGAIN: dict[Weights, str] = {"fp32": "in float32", "int8": "rounded again to int8", "int4": "rounded again to int4"}


@dataclass(frozen=True, kw_only=True)
class OnnxExport:
    """What was written, and what was measured on it."""

    out: Path
    files: Mapping[str, int]
    """Path in the folder → bytes."""
    contract: OnnxContract
    checks: Mapping[Form, CheckResult]
    report: QuantizationReport | None
    """Of the first form; None for fp32."""
    exact: Mapping[Form, CheckResult] = field(default_factory=dict)
    """The same graphs of a quantized model with their products in float32: the model to the last digits."""


def export_onnx(
    path: Path | str,
    out: Path,
    *,
    forms: Sequence[Form] = ("fused",),
    weights: Weights | None = None,
    block_size: int | None = None,
    text: Path | None = None,
    overwrite: bool = False,
    needs_tokenizer: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> OnnxExport:
    """Write the model at `path` as the folder `out` for ONNX Runtime, verified.

    Args:
        path: run directory, checkpoint or model folder of ours.
        forms: `fused` for ONNX Runtime and GenAI, `portable` for any runtime with the standard operators.
        weights: of the matrices; vectors, the convolution and everything of the SSM stay float32. None: a quantized
            model keeps its numbers, another is fp32.
        block_size: weights that share a scale; None: the fastest that fits.
        text: a file to measure quantized weights on.
        overwrite: replace `out`.
        needs_tokenizer: refuse a model without one.
        say: is told what is going on.

    Raises:
        ConfigError: the block size does not fit the model, or it has the sublayer of a plugin; names it.
        DataError: no model, no tokenizer, or a text that cannot be used.
        UsageError, DiskFullError: `out` exists, or does not fit.
        CheckFailedError: ONNX Runtime computes something else; names the reading and the layer. Nothing is left.
        MissingDependencyError: onnx or onnxruntime is absent.
    """
    require("onnx", extra="onnx", purpose=PURPOSE)
    require("onnxruntime", extra="onnx", purpose="checking an ONNX graph")
    config = load_config(resolve_model_folder(path))
    require_own_letters(config.pattern, "the ONNX graph")
    if weights is not None or not is_quantized(path):
        plan_weights(config, weights or "fp32", block_size)  # what cannot be is said before the weights are read
    require_free(out, overwrite=overwrite)
    source = open_source(path, needs_tokenizer=needs_tokenizer)
    plan = plan_for(source, weights, block_size)
    if source.quantized and not plan.stored:
        say(f"warning: the model is quantized already; its values are written {AGAIN[plan.weights]}")
    measured = report_sequences(source, text) if plan.weights != "fp32" or text is not None else ([], "")
    exact: dict[Form, CheckResult] = {}
    with new_output(out, needed_bytes=needed_bytes(config, plan.weights, len(forms)), overwrite=overwrite) as folder:
        say(f"writing {' and '.join(forms)}, weights in {described(plan)}")
        contract = write_onnx_folder(source, folder, forms=forms, plan=plan)
        checks: dict[Form, CheckResult] = {}
        report = None
        for form in forms:
            say(f"opening {contract.files[form]} in ONNX Runtime and comparing")
            if plan.stored:
                runner = OnnxRunner(folder, form=form, in_float32=True)
                exact[form] = check_graph(runner, source.model, plan, checked_sequences(source))
            runner = OnnxRunner(folder, form=form)
            checks[form] = check_graph(runner, source.model, plan, checked_sequences(source))
            if plan.weights != "fp32" and report is None:
                cause = "products with rounded inputs change" if plan.stored else f"{plan.weights} changes"
                say(f"measuring what {cause}, on {measured[1]}")
                report = measure_quantization(
                    source,
                    runner,
                    plan=plan,
                    sequences=measured[0],
                    text=measured[1],
                )
                write_json_atomic(folder / REPORT_FILE, report.as_json())
        files = {
            str(file.relative_to(folder)): file.stat().st_size for file in sorted(folder.rglob("*")) if file.is_file()
        }
    return OnnxExport(out=out, files=files, contract=contract, checks=checks, report=report, exact=exact)


def write_onnx_folder(
    source: Source,
    folder: Path,
    *,
    forms: Sequence[Form] = ("fused",),
    weights: Weights | None = None,
    plan: WeightPlan | None = None,
) -> OnnxContract:
    """Write all files of an export into an existing folder, unchecked.

    Args:
        plan: how matrices are stored; None: see `plan_for`.

    Raises:
        ConfigError: the model has no fitting block size, or the form cannot hold a matrix; names it.
        DiskFullError: no room.
    """
    plan = plan or plan_for(source, weights)
    files: dict[Form, str] = {form: graph_path(form, plan.weights) for form in forms}
    for form, file in files.items():
        save_graph(build_graph(source.model, form, plan), folder / file)
    contract = OnnxContract(config=source.config, weights=plan.weights, files={**files}, block_size=plan.block_size)
    write_beside_graphs(source, folder, contract)
    return contract


def checked_sequences(source: Source) -> list[list[int]]:
    """Random tokens of `CHECKED_LENGTHS` and, with a tokenizer, text."""
    longest = source.config.max_context_tokens
    found = [
        random_sequences(source.config.vocab_size, min(length, longest), count=1, seed=seed)[0]
        for seed, length in enumerate(CHECKED_LENGTHS)
    ]
    if source.tokenizer is not None:
        found += text_sequences(source.tokenizer.encode, min(CHECKED_TEXT_TOKENS, longest))
    return found


def needed_bytes(config: ModelConfig, weights: Weights, num_forms: int) -> int:
    """Bytes of the folder, roughly."""
    return int(count_parameters(config).total * BYTES_PER_WEIGHT[weights] * 1.1) * num_forms + SPARE_BYTES


def described(plan: WeightPlan) -> str:
    """The weights in words."""
    if plan.stored:
        return f"their own numbers ({', '.join(sorted({each.scheme.format for each in plan.stored.values()}))})"
    return plan.weights if plan.weights == "fp32" else f"{plan.weights} in blocks of {plan.block_size}"


def total_size(export: OnnxExport) -> str:
    """Size and number of the files in words."""
    return f"{format_bytes(sum(export.files.values()))} in {len(export.files)} files"
