"""Cross-entropy of a language model's head that never holds the logits of all tokens.

Letters: m tokens, d width, v vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba_slm.ops.shapes import check_shapes

IGNORE_INDEX = -100
DEFAULT_LOSS_CHUNK_TOKENS = 256  # so few that a chunk's logits stay in the cache of a CPU


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

    Memory: chunk_tokens * v values, plus one float32 copy of the gradient of the weight.
    """
    check_shapes(hidden=(hidden, "m d"), weight=(weight, "v d"), targets=(targets, "m"))
    counted = targets != IGNORE_INDEX
    if not bool(counted.all()):
        hidden, targets = hidden[counted], targets[counted]
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    needs_grad = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    return ChunkedCrossEntropy.apply(hidden, weight, targets, chunk_tokens, dtype, needs_grad)  # type: ignore[no-any-return]


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
        needs_grad: bool,  # not ctx.needs_input_grad, which ignores torch.no_grad
    ) -> Tensor:
        ctx.dtypes = hidden.dtype, weight.dtype
        low_weight = weight.to(dtype)
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grad_hidden = torch.empty_like(hidden, dtype=torch.float32) if needs_grad else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_grad else None
        for start in range(0, hidden.shape[0], chunk_tokens):
            chunk = hidden[start : start + chunk_tokens].to(dtype)
            wanted = targets[start : start + chunk_tokens, None]
            logits = (chunk @ low_weight.T).float()
            log_probabilities = torch.log_softmax(logits, dim=1)
            loss -= log_probabilities.gather(1, wanted).sum()
            if grad_hidden is None or grad_weight is None:
                continue
            probabilities = log_probabilities.exp_()
            probabilities.scatter_add_(1, wanted, torch.full_like(wanted, -1, dtype=torch.float32))
            error = probabilities.to(dtype)  # gradient with respect to the logits
            grad_hidden[start : start + chunk_tokens] = error @ low_weight
            grad_weight += (error.T @ chunk).float()
        ctx.save_for_backward(grad_hidden, grad_weight)
        return loss

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:  # type: ignore[override]
        grad_hidden, grad_weight = ctx.saved_tensors
        hidden_dtype, weight_dtype = ctx.dtypes
        return (grad_hidden * grad).to(hidden_dtype), (grad_weight * grad).to(weight_dtype), None, None, None, None
