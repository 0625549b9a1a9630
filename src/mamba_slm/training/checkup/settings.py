"""Weight-decay groups, dtypes, sharding and kernels of a run, without computing anything large."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from mamba_slm.core.errors import ConfigError
from mamba_slm.core.units import format_count
from mamba_slm.model.kept_float32 import KeptFloat32
from mamba_slm.model.stack import LanguageModel
from mamba_slm.ops.kernels import installed_kernels
from mamba_slm.ops.ssd import automatic_ssd_backend
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.distributed.finding import Finding
from mamba_slm.training.distributed.place import rows_of_each
from mamba_slm.training.optim import NEVER_DECAYS


def judge_groups(groups: Sequence[dict[str, Any]], trained: Iterable[tuple[str, Tensor]]) -> Finding:
    """Whether every trained parameter is in one group, and none decays that must not.

    Args:
        groups: an optimiser's, with `params`, `names` and `weight_decay`.
        trained: names and parameters that need a gradient.
    """
    expected = {name: tensor for name, tensor in trained if tensor.requires_grad}
    found = [name for group in groups for name in group["names"]]
    decaying = {name: tensor for group in groups if group["weight_decay"] for name, tensor in
                zip(group["names"], group["params"], strict=True)}  # fmt: skip
    wrong = [f"{name} is in no group" for name in expected if name not in found]
    wrong += [f"{name} is in {found.count(name)} groups" for name in expected if found.count(name) > 1]
    wrong += [
        f"{name} decays, and must not"
        for name, tensor in decaying.items()
        if tensor.ndim < 2 or name.rpartition(".")[2] in NEVER_DECAYS
    ]
    if wrong:
        return Finding(name="groups", status="fail", text="; ".join(wrong[:4]), hint="training/optim.py makes them")
    count = sum(tensor.numel() for tensor in decaying.values())
    rest = sum(tensor.numel() for tensor in expected.values()) - count
    rates = sorted({group["weight_decay"] for group in groups if group["weight_decay"]})
    by = f" by {', '.join(f'{rate:g}' for rate in rates)}" if rates else ""
    return Finding(
        name="groups",
        text=f"weight decay{by} on {format_count(count)} elements of {len(decaying)} matrices; none on "
        f"{format_count(rest)} of norms, biases, A_log, dt_bias, D and convolutions",
        measured={"decaying": float(count), "not_decaying": float(rest)},
    )


def check_dtypes(model: LanguageModel, seen: dict[str, torch.dtype], wanted: torch.dtype) -> Finding:
    """Whether masters are float32, and the step computed in the precision that was asked for.

    Args:
        seen: dtype of what each projection gave and of the residual stream (`stream`), from a step.
        wanted: of matrix products.
    """
    wrong = [f"{name} is {tensor.dtype}" for name, tensor in model.named_parameters() if tensor.dtype != torch.float32]
    wrong += [
        f"{name} gives {dtype}, expected {torch.float32 if name == 'stream' else wanted}"
        for name, dtype in seen.items()
        if dtype != (torch.float32 if name == "stream" else wanted)
    ]
    if wrong:
        return Finding(name="dtypes", status="fail", text="; ".join(wrong[:4]), hint="see training/precision.py")
    kept = sum(len(module.kept_float32) for module in model.modules() if isinstance(module, KeptFloat32))
    products = str(wanted).removeprefix("torch.")
    return Finding(
        name="dtypes",
        text=f"masters and residual stream float32, {len(seen) - 1} projections computed in {products}; "
        f"{kept} parameters of norms, convolutions and scans stay float32",
    )


def check_sharding(config: TrainConfig, processes: int) -> Finding:
    """Whether rows and weights can be dealt to that many processes."""
    if processes == 1:
        return Finding(name="sharding", text=f"one process with {config.rows_per_step} rows per step")
    try:
        rows = rows_of_each(config.rows_per_step, processes, context_tokens=config.context_tokens)
    except ConfigError as error:
        return Finding(name="sharding", status="fail", text=error.message, hint=error.hint or "")
    group = config.shard_processes or processes
    if config.engine == "fsdp" and (group > processes or processes % group):
        fitting = ", ".join(str(n) for n in range(1, processes + 1) if processes % n == 0)
        return Finding(
            name="sharding",
            status="fail",
            text=f"{processes} processes cannot form groups of {group}",
            hint=f"use --shard-processes with one of {fitting}",
        )
    passes = -(-rows // min(rows, config.rows_at_once))
    return Finding(
        name="sharding",
        text=f"{processes} processes, engine {config.engine}: {rows} rows each, in {passes} passes of at most "
        f"{config.rows_at_once}; how they talk: mamba-slm doctor --distributed --nproc {processes}",
    )


def check_kernels(config: TrainConfig, line: str) -> Finding:
    """Which kernels the run computes with; `line` is what `kernels_in_use` says."""
    device_type = torch.device(config.device).type
    backend, reason = automatic_ssd_backend(device_type, compiled=config.compile)
    have = sorted(name for name, kind in installed_kernels() if kind == device_type)
    text = line.removeprefix("kernels: ")
    if have or config.kernels == "torch" or config.compile:
        scan = "kernel" if "ssd_scan" in have else f"{backend} ({reason})"
        return Finding(name="kernels", text=f"{text}; scan: {scan}", measured={"kernels": float(len(have))})
    return Finding(
        name="kernels",
        status="warn",
        text=f"{text}; scan: {backend} ({reason})",
        hint="mamba-slm doctor says what is missing and what it costs",
    )
