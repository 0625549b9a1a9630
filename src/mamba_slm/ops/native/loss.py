"""Softmax, loss and gradient of rows of logits in the place of the logits: three passes over a row in the cache."""

from __future__ import annotations

import ctypes
import functools

import torch
from torch import Tensor

from mamba_slm.ops.kernels import Kernel
from mamba_slm.ops.loss import token_losses_reference
from mamba_slm.ops.native.arguments import POINTER, SIZE, SUFFIX, declare, refused_tensor
from mamba_slm.ops.native.library import library
from mamba_slm.ops.native.start import SELF_TEST_TOLERANCE, NativeKernels

LANES = 16


@functools.cache
def functions() -> ctypes.CDLL:
    """The compiled functions with their arguments declared."""
    found = library("loss")
    for suffix in SUFFIX.values():
        declare(found, f"token_losses_{suffix}", POINTER, SIZE, POINTER, POINTER, SIZE, SIZE, SIZE)
    declare(found, "accumulate_bf16", POINTER, POINTER, SIZE, SIZE)
    return found


def accumulate(total: Tensor, product: Tensor, *, overwrite: bool) -> None:
    """See `mamba_slm.ops.loss.accumulate`."""
    functions().accumulate_bf16(total.data_ptr(), product.data_ptr(), total.numel(), int(overwrite))


def refuses_to_accumulate(total: Tensor, product: Tensor, *, overwrite: bool) -> str | None:
    """Why the kernel cannot take these arguments, or None."""
    if total.shape != product.shape or not (total.is_contiguous() and product.is_contiguous()):
        return "the arguments differ in shape or lie apart"
    if total.numel() % LANES:
        return f"{total.numel()} values are no multiple of {LANES}"
    return refused_tensor("total", total, torch.float32) or refused_tensor("product", product, torch.bfloat16)


def token_losses(logits: Tensor, targets: Tensor, losses: Tensor, needs_grad: bool) -> None:
    """See `mamba_slm.ops.loss.token_losses_reference`."""
    getattr(functions(), f"token_losses_{SUFFIX[logits.dtype]}")(
        logits.data_ptr(), logits.stride(0), targets.data_ptr(), losses.data_ptr(), *logits.shape, int(needs_grad)
    )


def refuses(logits: Tensor, targets: Tensor, losses: Tensor, needs_grad: bool) -> str | None:
    """Why the kernel cannot take these arguments, or None."""
    if not logits.numel() or logits.stride(1) != 1 or not (targets.is_contiguous() and losses.is_contiguous()):
        return "the arguments are empty or lie apart"
    return (
        refused_tensor("logits", logits)
        or refused_tensor("targets", targets, torch.int64)
        or refused_tensor("losses", losses, torch.float32)
    )


def self_test() -> str | None:
    """See `NativeKernels`."""
    logits, targets = 8 * torch.randn(64, 1003), torch.randint(0, 1003, (64, 1))
    results = []
    for function in (token_losses_reference, token_losses):
        gradient, losses = logits.clone(), torch.empty(64, 1)
        function(gradient, targets, losses, True)
        results.append((losses, gradient))
    for what, expected, found in zip(("losses", "gradients"), *results, strict=True):
        error = float((found - expected).abs().max() / expected.abs().max())
        if not error <= SELF_TEST_TOLERANCE:
            return f"{what} are off by {error:.0e}"
    total, product = torch.randn(8, 16), torch.randn(8, 16).bfloat16()
    expected = total + product
    accumulate(total, product, overwrite=False)
    return None if torch.equal(total, expected) else "sums of products differ"


KERNELS = NativeKernels(
    operations={
        "token_losses": Kernel(name="native", run=token_losses, refuses=refuses),
        "accumulate": Kernel(name="native", run=accumulate, refuses=refuses_to_accumulate),
    },
    unsupported=lambda: None,
    self_test=self_test,
)
