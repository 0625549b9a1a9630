"""The loss of the second stage: two heads compared over the vocabulary, a few tokens at a time.

Letters: m tokens, d width, v vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mamba_slm.ops.loss import IGNORE_INDEX

CHUNK_LOGITS = 2**25
"""Logits of one head that are held at once: 128 MiB in float32."""


def distillation_loss(
    hidden: Tensor,
    weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    targets: Tensor,
    *,
    share: float,
    temperature: float = 1.0,
    chunk_logits: int = CHUNK_LOGITS,
) -> Tensor:
    """Sum over tokens of share * T² * KL(teacher ‖ student) + (1 - share) * -log p(target), in nats.

    Both distributions are softmax(logits / T) in the first term (Hinton et al., arXiv:1503.02531); T² keeps the size of
    its gradients. Targets of -100 do not count. The logits of a few tokens at a time are held, and computed again going
    back.

    Args:
        hidden: [m d]; weight: [v d]; of the student.
        teacher_hidden: [m d']; teacher_weight: [v d']; no gradients.
        targets: [m].
    """
    counted = targets != IGNORE_INDEX
    if not bool(counted.all()):
        hidden, teacher_hidden, targets = hidden[counted], teacher_hidden[counted], targets[counted]
    at_once = max(1, chunk_logits // weight.shape[0])
    total = torch.zeros((), dtype=torch.float32, device=hidden.device)
    for start in range(0, len(targets), at_once):
        here = slice(start, start + at_once)
        total = total + checkpoint(
            chunk_loss, hidden[here], weight, teacher_hidden[here], teacher_weight, targets[here], share, temperature,
            use_reentrant=False, preserve_rng_state=False,
        )  # fmt: skip
    return total


def chunk_loss(
    hidden: Tensor,
    weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    targets: Tensor,
    share: float,
    temperature: float,
) -> Tensor:
    """`distillation_loss` of so few tokens that their logits fit."""
    logits = F.linear(hidden.to(weight.dtype), weight).float()
    total = logits.new_zeros(())
    if share < 1:
        total = total + (1 - share) * F.cross_entropy(logits, targets, reduction="sum")
    if share > 0:
        with torch.no_grad():
            teacher = F.linear(teacher_hidden.to(teacher_weight.dtype), teacher_weight).float()
            expected = F.log_softmax(teacher / temperature, dim=-1)
        found = F.log_softmax(logits / temperature, dim=-1)
        divergence = F.kl_div(found, expected, reduction="sum", log_target=True)
        total = total + share * temperature**2 * divergence
    return total
