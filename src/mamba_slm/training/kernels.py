"""Which kernels a training run computes with, for as long as it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Literal, get_args

import torch

from mamba_slm.core.errors import ConfigError, SetupError
from mamba_slm.ops.kernels import without_kernels
from mamba_slm.ops.native.start import start_native_kernels

KernelChoice = Literal["auto", "native", "torch"]


@contextlib.contextmanager
def kernels_in_use(wanted: KernelChoice, device: str, say: Callable[[str], None]) -> Iterator[str]:
    """Until the end of the block, operations on this kind of device take the kernels chosen; then those from before.

    Args:
        wanted: "torch" for none; "auto" for those that compile and pass their tests here; "native" for all of them.
        say: told before a compilation.

    Yields: which ones are in use, and why others are not, in one line.

    Raises:
        ConfigError: no such choice.
        SetupError: "native", and one of them cannot be had; says why.
    """
    if wanted not in get_args(KernelChoice):
        raise ConfigError(f"unknown kernels {wanted!r}", hint="use auto, native or torch")
    with without_kernels():
        if wanted == "torch":
            yield "kernels: PyTorch's (asked for)"
            return
        is_gpu = torch.device(device).type == "cuda"
        started = start_on_gpu(device, say) if is_gpu else start_native_kernels(say)
        if wanted == "native" and started.left:
            raise SetupError(
                "kernels native was asked for: " + "; ".join(f"{name}: {why}" for name, why in started.left.items()),
                hint="use --kernels auto, which goes on without; `mamba-slm doctor` examines the compiler",
            )
        yield str(started)


def start_on_gpu(device: str, say: Callable[[str], None]):
    """`ops.triton.start.start_all`, imported only where there is a GPU."""
    from mamba_slm.ops.triton.start import start_all

    return start_all(torch.device(device), say)
