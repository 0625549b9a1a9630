"""What all sublayers of one call share: positions, masks and document boundaries.

Letters: b batch, t time, s key slots.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba_slm.core.errors import UsageError
from mamba_slm.model.state import InferenceState
from mamba_slm.ops.attention import document_starts


@dataclass(frozen=True, kw_only=True)
class CallContext:
    """Computed once per call by `prepare`, read by every sublayer."""

    positions: Tensor
    """[b t] position of each token in its own document."""
    key_positions: Tensor
    """[b s] positions of the keys attention sees."""
    first_key: Tensor | None
    """[b t] first slot that each token sees, which documents and padding on the left move; None means 0."""
    key_valid: Tensor | None
    """[b s] False for padding; None unless some lies between the tokens of a row, which `first_key` cannot say."""
    document_ids: Tensor | None
    """[b t] or None; None too where every row is one document."""
    padding_mask: Tensor | None
    """[b t] True for real tokens; None when all are."""
    length_before: int
    """Slots of the key-value cache used before this call."""
    last_only: bool = False
    """Only what comes out at the last position is wanted, behind the last sublayer that mixes positions."""
    rotary: tuple[Tensor, Tensor] | None = None
    """cos and sin [b t head_dim] of the positions, where attention rotates; computed once for all its sublayers."""


def prepare(
    size: tuple[int, int],
    device: torch.device,
    *,
    positions: Tensor | None = None,
    document_ids: Tensor | None,
    padding_mask: Tensor | None,
    state: InferenceState | None,
) -> CallContext:
    """Check the arguments of a call of `size` (b, t), work out positions, and reserve room in the state.

    Args: see `Backbone.hidden_states`.

    Raises:
        UsageError: shapes disagree; no tokens; documents together with a state; padding between the tokens of a row.
    """
    for name, given in (("positions", positions), ("document_ids", document_ids), ("padding_mask", padding_mask)):
        if given is not None and given.shape != size:
            raise UsageError(f"{name} has shape {tuple(given.shape)}, tokens have {size}")
    if state is not None and document_ids is not None:
        raise UsageError("packed documents cannot be combined with an inference state", hint="use one row per document")
    b, t = size
    if state is not None and state.batch_size != b:
        raise UsageError(f"the state has {state.batch_size} rows, tokens have {b}")
    if t == 0:
        raise UsageError("there are no tokens to read", hint="start an empty text with the beginning-of-text token")
    steps = torch.arange(t, device=device).expand(b, t)
    if padding_mask is not None:
        padding_mask = padding_mask.bool()
        require_unbroken(padding_mask, num_tokens=None if state is None else state.num_tokens)
        steps = (padding_mask.cumsum(dim=1) - 1).clamp(min=0)
    first_key = None if padding_mask is None else behind_padding(padding_mask, t)
    if document_ids is not None and has_boundaries(document_ids):
        document_ids = F.pad(
            (document_ids[:, 1:] != document_ids[:, :-1]).cumsum(dim=1), (1, 0)
        )  # an id may come again
        steps = positions_in_documents(steps, document_ids)
        starts = document_starts(document_ids)
        first_key = starts if first_key is None else torch.maximum(starts, first_key)
    else:
        document_ids = None
    if state is None:
        positions = steps if positions is None else positions
        return CallContext(
            positions=positions,
            key_positions=positions,
            first_key=first_key,
            key_valid=None,
            document_ids=document_ids,
            padding_mask=padding_mask,
            length_before=0,
        )
    positions = state.num_tokens[:, None] + steps if positions is None else positions
    state.reserve(t)
    end = state.length + t
    state.positions[:, state.length : end] = positions
    state.valid[:, state.length : end] = True if padding_mask is None else padding_mask
    if padding_mask is not None:
        state.has_padding = state.has_padding or not bool(padding_mask.all())
    valid = state.valid[:, :end] if state.has_padding else None
    is_broken = valid is not None and has_gaps(valid)
    return CallContext(
        positions=positions,
        key_positions=state.positions[:, :end],
        first_key=None if valid is None or is_broken else behind_padding(valid, t),
        key_valid=valid if is_broken else None,
        document_ids=None,
        padding_mask=padding_mask,
        length_before=state.length,
    )


def behind_padding(valid: Tensor, num_queries: int) -> Tensor | None:
    """The first real slot of each row of [b s], or a padded query's own: [b t]; None where that is 0 everywhere."""
    first = valid.int().argmax(dim=1)[:, None]  # of several largest values the first
    if not torch.compiler.is_compiling() and not bool(first.any()):
        return None
    s = valid.shape[1]
    return torch.minimum(first, torch.arange(s - num_queries, s, device=valid.device))


def has_gaps(valid: Tensor) -> bool:
    """Whether padding lies between the real tokens of a row of [b s]; always yes under torch.compile."""
    if torch.compiler.is_compiling():
        return True
    return bool((valid[:, 1:] & ~valid[:, :-1]).sum(dim=1).gt((~valid[:, 0]).long()).any())


def has_boundaries(document_ids: Tensor) -> bool:
    """Whether the id changes within a row of [b t]; without a change nothing needs a mask.

    Under torch.compile the answer is always yes, because there the graph must not depend on values.
    """
    return torch.compiler.is_compiling() or not torch.equal(document_ids[:, 1:], document_ids[:, :-1])


def require_unbroken(padding_mask: Tensor, *, num_tokens: Tensor | None) -> None:
    """The tokens of a row are one run, with padding before or after it; only after it where the row has earlier tokens.

    Args:
        padding_mask: [b t].
        num_tokens: [b] earlier tokens of each row; None when there are none.

    Raises:
        UsageError: naming the first bad row. A convolution would otherwise take padding for the tokens before it.
    """
    starts = (padding_mask[:, 1:] & ~padding_mask[:, :-1]).sum(dim=1)
    bad = starts + padding_mask[:, 0].long() > 1
    where = "before and after the tokens of a row, not between them"
    if num_tokens is not None:
        interrupted = (num_tokens > 0) & ~padding_mask[:, 0] & padding_mask.any(dim=1)
        if bool(interrupted.any()):
            bad, where = interrupted, "only to the right of the tokens when a state continues"
    if bool(bad.any()):
        raise UsageError(
            f"row {int(bad.int().argmax())}: padding may stand {where}",
            hint="a padding token that is part of the text needs a mask that says so (an attention_mask of ones)",
        )


def positions_in_documents(steps: Tensor, document_ids: Tensor) -> Tensor:
    """Count positions [b t] from 0 again at every change of the document id."""
    starts = torch.zeros_like(steps)
    changed = document_ids[:, 1:] != document_ids[:, :-1]
    starts[:, 1:] = torch.where(changed, steps[:, 1:], torch.zeros_like(steps[:, 1:]))
    return steps - starts.cummax(dim=1).values


def advance(state: InferenceState, context: CallContext) -> None:
    """Count the tokens of a finished call."""
    t = context.positions.shape[1]
    state.length += t
    state.num_tokens = state.num_tokens + (t if context.padding_mask is None else context.padding_mask.sum(dim=1))
