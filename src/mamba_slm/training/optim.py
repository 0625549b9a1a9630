"""The optimiser of a run, with decay on matrices only, and its state as tensors that a checkpoint can hold.

What never decays: everything with one axis (norm weights, biases, `A_log`, `dt_bias`, `D`) and the depthwise
convolution, whose weight has two axes but is one short filter per channel. Pulling `A_log` to 0 would pull every decay
rate to 1, pulling `dt_bias` to 0 every step size to 0.69, both far outside their initial range.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from mamba_slm.core.errors import ConfigError
from mamba_slm.training.adamw8bit import adamw_8bit, as_tensors, bitsandbytes, from_tensors, is_8bit
from mamba_slm.training.muon import MuonWithAdamW
from mamba_slm.training.spread import ENGINES_OF

KINDS = {"adamw": "AdamW", "adamw8bit": "AdamW8bit", "muon": "MuonWithAdamW"}
"""Optimiser -> name of its class."""

WHY_NOT = {
    "adamw8bit": "blocks of 256 values that share a scale would be cut at the borders between processes",
    "muon": "it needs whole matrices, and ZeRO hands an optimiser flat pieces of them",
}

NEVER_DECAYS = ("A_log", "dt_bias", "D", "conv_weight", "conv_bias")


def decays(name: str, parameter: torch.Tensor) -> bool:
    """Whether weight decay applies to the parameter of this name: matrices, and of these not the convolution."""
    return parameter.ndim >= 2 and name.rpartition(".")[2] not in NEVER_DECAYS


def parameter_groups(named_parameters: Iterable[tuple[str, nn.Parameter]], *, weight_decay: float) -> list[dict]:
    """Split trainable parameters into the group that decays and the one that does not.

    Returns:
        Groups for a torch optimiser, each with `params`, their `names` in the same order, and `weight_decay`.
        Parameters that need no gradient are left out; so are empty groups.

    Raises:
        ConfigError: a trainable parameter is not float32. Optimiser steps are far below half-precision's resolution,
            so master weights are float32 always, and autocast lowers the arithmetic instead.
    """
    groups = [
        {"names": [], "params": [], "weight_decay": weight_decay},
        {"names": [], "params": [], "weight_decay": 0.0},
    ]
    for name, parameter in named_parameters:
        if not parameter.requires_grad:
            continue
        if parameter.dtype != torch.float32:
            raise ConfigError(
                f"{name} is {parameter.dtype}; trainable weights must be float32",
                hint="load the model in float32 and choose the arithmetic with --precision bf16 or fp16",
            )
        group = groups[0] if decays(name, parameter) else groups[1]
        group["names"].append(name)
        group["params"].append(parameter)
    return [group for group in groups if group["params"]]


def require_optimizer(name: str, *, engine: str = "plain") -> None:
    """Refuse an optimiser that cannot be had, or not under this engine.

    Raises:
        ConfigError: no such optimiser, or one whose state this engine cannot share out.
        MissingDependencyError: its library is not installed.
    """
    if name not in ENGINES_OF:
        raise ConfigError(f"unknown optimizer {name!r}", hint=f"use {', '.join(ENGINES_OF)}")
    if name == "adamw8bit":
        bitsandbytes()
    if engine not in ENGINES_OF[name]:
        raise ConfigError(
            f"{name} does not work with {engine}: {WHY_NOT[name]}",
            hint="use --engine ddp with it, or --optimizer adamw",
        )


def build_optimizer(
    model: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float],
    epsilon: float,
    name: str = "adamw",
) -> torch.optim.Optimizer:
    """An optimiser over `parameter_groups(model)`: fused AdamW, AdamW with moments of 8 bits, or Muon with AdamW.

    Source of AdamW: Loshchilov and Hutter, arXiv:1711.05101. Fused is one pass over memory instead of a dozen, on CPU
    too. See `muon` and `adamw8bit` for the others.
    """
    groups = parameter_groups(model.named_parameters(), weight_decay=weight_decay)
    if not groups:
        raise ConfigError("the model has no trainable parameters")
    if name == "muon":
        return MuonWithAdamW(groups, learning_rate=learning_rate, betas=betas, epsilon=epsilon)
    if name == "adamw8bit":
        return adamw_8bit(groups, learning_rate=learning_rate, betas=betas, epsilon=epsilon)
    return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, eps=epsilon, fused=True)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Optimiser state as flat tensors named `PARAMETER/KEY`, ready for safetensors."""
    tensors = {}
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            for key, value in as_tensors(optimizer.state.get(parameter, {})).items():
                tensors[f"{name}/{key}"] = value.detach().contiguous()
    return tensors


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Put back what `optimizer_tensors` gave.

    Tensors are copied into fresh memory, aligned like the optimiser's own, because the order of additions in
    vectorised code can depend on alignment and a resumed run must match to the last bit.

    Raises:
        ConfigError: `tensors` has a parameter that the optimiser does not have, or is another optimiser's.
    """
    require_state_of(optimizer, tensors)
    left = dict(tensors)
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            keys = [key for key in left if key.rpartition("/")[0] == name]
            if keys:
                saved = {
                    key.rpartition("/")[2]: torch.empty_like(left[key], device=parameter.device).copy_(left.pop(key))
                    for key in keys
                }
                is_quantised = is_8bit(saved)
                optimizer.state[parameter] = from_tensors(optimizer, saved, parameter.device) if is_quantised else saved
    if left:
        raise ConfigError(f"the optimiser state has no parameter for {sorted(left)[0]!r}")


def require_state_of(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Any]) -> None:
    """Refuse the state of another kind of optimiser.

    Raises:
        ConfigError: names both.
    """
    keys = {name.rpartition("/")[2] for name in tensors}
    if not keys:
        return
    saved = "adamw8bit" if "state1" in keys else "muon" if "momentum_buffer" in keys else "adamw"
    asked = next((name for name, kind in KINDS.items() if type(optimizer).__name__ == kind), "adamw")
    if saved != asked:
        raise ConfigError(
            f"the checkpoint holds the state of {saved}, and the run asks for {asked}",
            hint=f"resume with --optimizer {saved}; a change of the optimiser is a new run",
        )
