"""`mamba-slm export onnx`: write, check, and only then show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mamba_slm.export.onnx.build import build_graph, save_graph
from mamba_slm.export.onnx.contract import graph_path
from mamba_slm.export.onnx.plan import plan_weights
from mamba_slm.export.source import Source
from mamba_slm.model.onnx_contract import Form, OnnxContract, Weights


def write_onnx_folder(
    source: Source,
    folder: Path,
    *,
    forms: Sequence[Form] = ("fused",),
    weights: Weights = "fp32",
    block_size: int | None = None,
) -> OnnxContract:
    """Write all files of an export into an existing folder, unchecked.

    Raises:
        ConfigError: a form cannot hold this model, or the block size does not fit; names the setting.
        DiskFullError: no room.
    """
    plan = plan_weights(source.config, weights, block_size)
    for form in forms:
        save_graph(build_graph(source.model, form, plan), folder / graph_path(form, weights))
    contract = OnnxContract(
        config=source.config,
        weights=weights,
        files={form: graph_path(form, weights) for form in forms},
        block_size=plan.block_size,
    )
    contract.write(folder)
    if source.tokenizer is not None:
        source.tokenizer.save(folder)
    return contract
