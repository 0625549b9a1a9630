"""Cross-entropy of a language model's head that never holds the logits of all tokens.

Letters: m tokens, d width, v vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._C._autograd import _get_current_graph_task_keep_graph as keeps_graph  # type: ignore[attr-defined]

from mamba_slm.ops.kernels import loaded_kernel
from mamba_slm.ops.shapes import check_shapes

IGNORE_INDEX = -100
DEFAULT_LOSS_CHUNK_TOKENS = 256
LEAST_CHUNK_TOKENS_OF_GPUS = 4096  # smaller products leave most of a GPU idle
VALUES_IN_CACHE = 2**18  # of float32, two or three of which a core has at hand together
PRODUCT_ROWS = 1024  # of a product that is added to another matrix before it has left the cache


def cross_entropy_reference(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Sum over tokens of -log softmax(hidden @ weightᵀ)[target], in float32; targets of -100 do not count.

    Args:
        hidden: [m d]; weight: [v d]; targets: [m].

    Raises:
        ShapeError: two arguments disagree about one of the letters.
    """
    check_shapes(hidden=(hidden, "m d"), weight=(weight, "v d"), targets=(targets, "m"))
    logits = (hidden @ weight.T).float()
    return F.cross_entropy(logits, targets, ignore_index=IGNORE_INDEX, reduction="sum")


def cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, chunk_tokens: int = DEFAULT_LOSS_CHUNK_TOKENS
) -> Tensor:
    """`cross_entropy_reference` with the logits of `chunk_tokens` tokens at a time.

    The gradients of hidden and weight are computed in the forward pass, chunk by chunk, and only scaled in the backward
    pass. Under autocast the products run in its dtype; the softmax and the gradient of the weight stay float32.

    Memory: chunk_tokens * v values in the dtype of the products, plus one float32 copy of the gradient of the weight,
    unless the weight is frozen, which saves a third of the products, too.
    """
    check_shapes(hidden=(hidden, "m d"), weight=(weight, "v d"), targets=(targets, "m"))
    counted = targets != IGNORE_INDEX
    if not bool(counted.all()):
        hidden, targets = hidden[counted], targets[counted]
    device = hidden.device.type
    chunk_tokens = chunk_tokens if device == "cpu" else max(chunk_tokens, LEAST_CHUNK_TOKENS_OF_GPUS)
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    enabled = torch.is_grad_enabled()  # of which ctx.needs_input_grad knows nothing
    needed = enabled and hidden.requires_grad, enabled and weight.requires_grad
    return ChunkedCrossEntropy.apply(hidden, weight, targets, chunk_tokens, dtype, needed)  # type: ignore[no-any-return]


class ChunkedCrossEntropy(torch.autograd.Function):
    """Loss and gradients of the head together."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        chunk_tokens: int,
        dtype: torch.dtype,
        needed: tuple[bool, bool],
    ) -> Tensor:
        ctx.dtypes = hidden.dtype, weight.dtype
        m, v = hidden.shape[0], weight.shape[0]
        low_weight = weight.to(dtype)
        losses = torch.empty(m, dtype=torch.float32, device=hidden.device)
        logits = torch.empty(min(chunk_tokens, m), v, dtype=dtype, device=hidden.device)
        grad_hidden = torch.empty_like(hidden, dtype=torch.float32) if needed[0] else None
        grad_weight = torch.empty_like(weight, dtype=torch.float32) if needed[1] else None
        for start in range(0, m, chunk_tokens):
            here = slice(start, start + chunk_tokens)
            chunk = hidden[here].to(dtype)
            error = torch.mm(chunk, low_weight.T, out=logits[: len(chunk)])  # the logits, until they are overwritten
            token_losses(error, targets[here, None], losses[here, None], any(needed))
            if grad_hidden is not None:
                grad_hidden[here] = error @ low_weight
            if grad_weight is not None:
                add_product(grad_weight, error.T, chunk, overwrite=start == 0)
        if grad_weight is not None and not m:
            grad_weight.zero_()
        ctx.save_for_backward(grad_hidden, grad_weight)
        return losses.sum()

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        again = keeps_graph()  # a second backward pass needs them as they are
        scaled = (
            None if saved is None else (saved * grad if again else saved.mul_(grad)).to(dtype)
            for saved, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        return *scaled, None, None, None, None


def rows_at_once(vocab_size: int, device_type: str) -> int:
    """How many rows of logits to take the softmax of together: on CPUs so few that they stay in the caches."""
    if device_type != "cpu" or torch.compiler.is_compiling():
        return 2**40  # all
    return max(1, VALUES_IN_CACHE * torch.get_num_threads() // vocab_size)


def token_losses(logits: Tensor, targets: Tensor, losses: Tensor, needs_grad: bool) -> None:
    """`token_losses_reference`, by a kernel or for so few rows at a time that they stay in the caches."""
    if (run := loaded_kernel("token_losses", logits.device.type, logits, targets, losses, needs_grad)) is not None:
        run(logits, targets, losses, needs_grad)
        return
    rows = rows_at_once(logits.shape[1], logits.device.type)
    for few in zip(logits.split(rows), targets.split(rows), losses.split(rows), strict=True):
        token_losses_reference(*few, needs_grad)


def token_losses_reference(logits: Tensor, targets: Tensor, losses: Tensor, needs_grad: bool) -> None:
    """Write -log softmax(logits)[target] to `losses`, and the gradient with respect to the logits over the logits.

    Args:
        logits: [r v]; targets, losses: [r 1], losses float32.
    """
    logits32 = logits.float()
    log_probabilities = torch.log_softmax(logits32, dim=1)
    torch.neg(log_probabilities.gather(1, targets), out=losses)
    if needs_grad:
        probabilities = log_probabilities.exp_()
        probabilities.scatter_add_(1, targets, torch.full_like(targets, -1, dtype=torch.float32))
        logits.copy_(probabilities)


def add_product(total: Tensor, left: Tensor, right: Tensor, *, overwrite: bool = False) -> None:
    """total += left @ right: [v d], [v c], [c d]; the product in the dtype of the factors, the sum in that of total.

    Args:
        overwrite: total = left @ right.
    """
    if total.dtype == left.dtype:
        total.addmm_(left, right, beta=0 if overwrite else 1)
        return
    rows = PRODUCT_ROWS if total.device.type == "cpu" else len(total)
    for part, factor in zip(total.split(rows), left.split(rows), strict=True):
        accumulate(part, factor @ right, overwrite=overwrite)


def accumulate(total: Tensor, product: Tensor, *, overwrite: bool) -> None:
    """total += product, or total = product, in the dtype of total."""
    kernel = loaded_kernel("accumulate", total.device.type, total, product, overwrite=overwrite)
    if kernel is not None:
        kernel(total, product, overwrite=overwrite)
    elif overwrite:
        total.copy_(product)
    else:
        total.add_(product)
