"""Softmax, loss and gradient of one chunk of logits, which the gradient overwrites. Letters: r rows, v vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor

from mamba_slm.ops.kernels import Kernel
from mamba_slm.ops.loss import token_losses_reference
from mamba_slm.ops.triton.arguments import first_reason, refused_tensor
from mamba_slm.ops.triton.language import block, jit, narrow, on_device_of, tl
from mamba_slm.ops.triton.start import TritonKernels

COLUMNS = 4096


@jit
def softmax_loss(logits, targets, losses, v, logits_r, targets_r, NEEDS_GRAD: tl.constexpr, COLUMNS: tl.constexpr):
    """Grid (rows): the first pass over a row finds its largest value and the sum, the second writes the gradient."""
    row = tl.program_id(0).to(tl.int64)
    logits += row * logits_r
    target = tl.load(targets + row * targets_r)
    i = tl.arange(0, COLUMNS)
    largest = tl.full((COLUMNS,), -3.0e38, dtype=tl.float32)  # finite, so that no difference is NaN
    total = tl.zeros((COLUMNS,), dtype=tl.float32)
    for start in range(0, v, COLUMNS):
        at = start + i
        values = tl.load(logits + at, mask=at < v, other=float("-inf")).to(tl.float32)
        new = tl.maximum(largest, values)
        total = total * tl.exp(largest - new) + tl.exp(values - new)
        largest = new
    top = tl.max(largest, axis=0)
    total = tl.sum(total * tl.exp(largest - top), axis=0)
    log_total = top + tl.log(total)
    tl.store(losses + row, log_total - tl.load(logits + target).to(tl.float32))
    if NEEDS_GRAD:
        tl.debug_barrier()  # the target's logit is read before any thread overwrites it
        for start in range(0, v, COLUMNS):
            at = start + i
            values = tl.load(logits + at, mask=at < v, other=float("-inf")).to(tl.float32)
            gradient = tl.exp(values - log_total) - tl.where(at == target, 1.0, 0.0)
            tl.store(logits + at, narrow(gradient, logits.dtype.element_ty), mask=at < v)


def token_losses(logits: Tensor, targets: Tensor, losses: Tensor, needs_grad: bool) -> None:
    """See `mamba_slm.ops.loss.token_losses_reference`."""
    rows, v = logits.shape
    columns = block(v, most=COLUMNS)
    with on_device_of(logits):
        softmax_loss[(rows,)](
            *(logits, targets, losses, v, logits.stride(0), targets.stride(0)),
            NEEDS_GRAD=needs_grad,
            COLUMNS=columns,
            num_warps=8 if columns >= 1024 else 4,
        )


def refuses(logits: Tensor, targets: Tensor, losses: Tensor, needs_grad: bool) -> str | None:
    """Why the kernel cannot take these, or None."""
    if logits.stride(-1) != 1 or not losses.is_contiguous():
        return "logits or losses are no dense rows"
    return first_reason(refused_tensor("logits", logits), refused_tensor("losses", losses, torch.float32))


def self_test(device: torch.device) -> str | None:
    """See `TritonKernels`."""
    logits, targets = 5 * torch.randn(64, 5000, device=device), torch.randint(5000, (64, 1), device=device)
    results = []
    for function in (token_losses_reference, token_losses):
        gradient, losses = logits.clone(), torch.empty(64, 1, device=device)
        function(gradient, targets, losses, True)
        results.append((gradient, losses))
    for name, expected, found in zip(("gradient", "losses"), *results, strict=True):
        error = float((expected - found).abs().max() / expected.abs().max())
        if not error <= 1e-5:
            return f"{name} is off by {error:.0e}"
    return None


KERNELS = TritonKernels(
    operations={"token_losses": Kernel(name="triton", run=token_losses, refuses=refuses)},
    self_test=self_test,
)
