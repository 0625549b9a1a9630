"""Faster ways of single operations that this process has loaded and tested, by operation and kind of device.

The table is empty until a program asks for kernels (`ops/native/start.py` for CPUs). From then on an operation such as
`rms_norm` looks here first, and goes on in PyTorch where there is nothing or the kernel refuses its arguments.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One faster way of an operation: both functions take the arguments of its definition."""

    name: str
    """Where it comes from, for messages: native, triton."""

    run: Callable[..., Any]
    """The results of the definition, with their gradients."""

    refuses: Callable[..., str | None]
    """Why it cannot take these arguments (dtype, layout, size), or None."""


_loaded_kernels: dict[tuple[str, str], Kernel] = {}


def loaded_kernel(operation: str, device_type: str, *args: Any, **kwargs: Any) -> Callable[..., Any] | None:
    """The function to call with these arguments instead of the PyTorch one, or None.

    None also while torch traces or compiles, which cannot look into a kernel.
    """
    kernel = _loaded_kernels.get((operation, device_type))
    if kernel is None or torch.compiler.is_compiling() or kernel.refuses(*args, **kwargs) is not None:
        return None
    return kernel.run


def install_kernel(operation: str, device_type: str, kernel: Kernel) -> None:
    """Let an operation take this kernel from now on, in place of an earlier one."""
    _loaded_kernels[operation, device_type] = kernel


def uninstall_kernels() -> None:
    """From now on every operation in PyTorch."""
    _loaded_kernels.clear()


def installed_kernels() -> dict[tuple[str, str], Kernel]:
    """What is installed now, by operation and kind of device."""
    return dict(_loaded_kernels)


@contextlib.contextmanager
def without_kernels() -> Iterator[None]:
    """Every operation in PyTorch, until the end of the block, which may install others for itself."""
    kept = dict(_loaded_kernels)
    _loaded_kernels.clear()
    try:
        yield
    finally:
        _loaded_kernels.clear()
        _loaded_kernels.update(kept)
