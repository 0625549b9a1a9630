"""Names in a trace for what belongs to which kind of sublayer, as long as a block lasts.

A forward pass is named by hooks around each sublayer, its backward pass by hooks around the gradients of its output and
its input. With gradient checkpointing the forward pass that is done again lies inside of the backward pass.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from mamba_slm.model.stack import LanguageModel

KINDS = {"M": "Mamba-2", "*": "attention", "-": "feed-forward"}
FORWARD, BACKWARD, WHOLE = "forward of ", "backward of ", "forward pass"


@contextlib.contextmanager
def named_ranges(model: LanguageModel) -> Iterator[bool]:
    """Until the end of the block, passes of sublayers and of the model have names. Numbers do not change.

    Yields: whether sublayers can be named; those that torch.compile has compiled cannot.
    """
    can_name = all(sublayer._compiled_call_impl is None for sublayer in model.sublayers)
    handles = []
    if can_name:
        for sublayer in model.sublayers:
            handles += hooked(sublayer, KINDS[sublayer.kind])  # type: ignore[index]
    whole = model.loss_sum

    @functools.wraps(whole)
    def named(*arguments: Any, **options: Any) -> Any:
        with torch.profiler.record_function(WHOLE):
            return whole(*arguments, **options)

    model.loss_sum = named  # type: ignore[method-assign]
    try:
        yield can_name
    finally:
        del model.loss_sum
        for handle in handles:
            handle.remove()


def hooked(module: nn.Module, kind: str) -> list[Any]:
    """Name both passes of a module; what is returned undoes it."""
    open_ranges: list[Any] = []

    def begin(name: str) -> None:
        entered = torch.profiler.record_function(name)
        entered.__enter__()
        open_ranges.append(entered)

    def end() -> None:
        if open_ranges:
            open_ranges.pop().__exit__(None, None, None)

    return [
        module.register_forward_pre_hook(lambda module, inputs: begin(FORWARD + kind)),
        module.register_forward_hook(lambda module, inputs, output: end()),
        module.register_full_backward_pre_hook(lambda module, gradient: begin(BACKWARD + kind)),
        module.register_full_backward_hook(lambda module, inner, outer: end()),
    ]
