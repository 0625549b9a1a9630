"""Instruments that several test folders use: the largest tensor of a computation, and memory filled with NaN."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten


class TensorSizes(TorchDispatchMode):
    """Records the shape of everything that any operation returns while it is active, the backward pass included."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: set[tuple[int, ...]] = set()
        self.operations: dict[str, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.operations[func.__name__] = self.operations.get(func.__name__, 0) + 1
        for part in tree_flatten(result)[0]:
            if isinstance(part, Tensor):
                # an expanded view holds only the memory behind it
                self.shapes.add(tuple(n for n, stride in zip(part.shape, part.stride(), strict=True) if stride))
        return result

    @property
    def largest(self) -> int:
        """Elements of the largest tensor."""
        return max(torch.Size(shape).numel() for shape in self.shapes)


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """Fill every uninitialised tensor with NaN, so that reading one before writing it shows."""
    was = torch.are_deterministic_algorithms_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        assert torch.empty(4).isnan().all()
        yield
    finally:
        torch.use_deterministic_algorithms(was)
        torch.utils.deterministic.fill_uninitialized_memory = filled
