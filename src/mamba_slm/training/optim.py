"""AdamW with decay on matrices only.

What never decays: everything with one axis (norm weights, biases, `A_log`, `dt_bias`, `D`) and the depthwise
convolution, whose weight has two axes but is one short filter per channel. Pulling `A_log` to 0 would pull every decay
rate to 1, pulling `dt_bias` to 0 every step size to 0.69, both far outside their initial range.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from mamba_slm.core.errors import ConfigError

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


def build_optimizer(
    model: nn.Module, *, learning_rate: float, weight_decay: float, betas: tuple[float, float], epsilon: float
) -> torch.optim.AdamW:
    """Fused AdamW over `parameter_groups(model)`.

    Source: Loshchilov and Hutter, arXiv:1711.05101. Fused is one pass over memory instead of a dozen, on CPU too.
    """
    groups = parameter_groups(model.named_parameters(), weight_decay=weight_decay)
    if not groups:
        raise ConfigError("the model has no trainable parameters")
    names = [group.pop("names") for group in groups]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=betas, eps=epsilon, fused=True)
    for group, group_names in zip(optimizer.param_groups, names, strict=True):
        group["names"] = group_names
    return optimizer


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Optimiser state as flat tensors named `PARAMETER/KEY`, ready for safetensors."""
    tensors = {}
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"{name}/{key}"] = value.detach().contiguous()
    return tensors


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Put back what `optimizer_tensors` gave.

    Tensors are copied into fresh memory, aligned like the optimiser's own, because the order of additions in
    vectorised code can depend on alignment and a resumed run must match to the last bit.

    Raises:
        ConfigError: `tensors` has a parameter that the optimiser does not have.
    """
    left = dict(tensors)
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            keys = [key for key in left if key.rpartition("/")[0] == name]
            if keys:
                optimizer.state[parameter] = {
                    key.rpartition("/")[2]: torch.empty_like(left[key], device=parameter.device).copy_(left.pop(key))
                    for key in keys
                }
    if left:
        raise ConfigError(f"the optimiser state has no parameter for {sorted(left)[0]!r}")
