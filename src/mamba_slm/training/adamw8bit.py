"""AdamW whose two moments take one byte each: bitsandbytes' block-wise quantised optimiser. Needs the extra `bnb`.

Each 256 values of a moment share one float32 scale; a value is the nearest of 256 levels, which lie closer near 0.
Parameters of fewer than 4,096 elements (norms, A_log, dt_bias, D, …) keep float32 moments. Together that is a quarter
of AdamW's moments.

Source: Dettmers et al., "8-bit Optimizers via Block-wise Quantization", arXiv:2110.02861.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import torch

from mamba_slm.core.optional import require

LEVELS = {"qmap1": "dynamic", "qmap2": "udynamic"}
"""Tables of the levels: the same for every parameter, and not saved."""


def bitsandbytes() -> ModuleType:
    """The library.

    Raises:
        MissingDependencyError: it cannot be imported.
    """
    with quiet("bitsandbytes.backends.cpu.ops"):
        return require("bitsandbytes", extra="bnb", purpose="--optimizer adamw8bit")


@contextlib.contextmanager
def quiet(name: str) -> Iterator[None]:
    """Without the warnings of one logger: this one's is about a kernel for 4-bit weights, which are not used here."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def adamw_8bit(
    groups: list[dict[str, Any]], *, learning_rate: float, betas: tuple[float, float], epsilon: float
) -> torch.optim.Optimizer:
    """bitsandbytes' AdamW8bit over groups with `params` and `weight_decay`."""
    return bitsandbytes().optim.AdamW8bit(groups, lr=learning_rate, betas=betas, eps=epsilon)


def is_8bit(state: Mapping[str, Any]) -> bool:
    """Whether one parameter's state is that of this optimiser."""
    return "state1" in state


def as_tensors(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """One parameter's state as it is saved: its counter of steps as a tensor, without the tables of levels."""
    return {
        key: value if isinstance(value, torch.Tensor) else torch.tensor(value)
        for key, value in state.items()
        if key not in LEVELS
    }


def from_tensors(
    optimizer: torch.optim.Optimizer, saved: Mapping[str, torch.Tensor], device: torch.device
) -> dict[str, Any]:
    """What `as_tensors` gave as the optimiser keeps it."""
    state: dict[str, Any] = dict(saved)
    state["step"] = int(saved["step"])
    if saved["state1"].dtype == torch.uint8:
        tables = optimizer.name2qmap  # type: ignore[attr-defined]
        for key, table in LEVELS.items():
            tables[table] = tables[table].to(device)
            state[key] = tables[table]
    return state
