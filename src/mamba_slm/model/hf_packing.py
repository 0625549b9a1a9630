"""Where one document ends and the next begins, read from what transformers' and TRL's collators pass.

Letters: b batch, t time.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba_slm.core.errors import UsageError


def document_ids_of(
    size: tuple[int, int],
    *,
    position_ids: Tensor | None,
    seq_idx: Tensor | None,
    borders: Tensor | None,
    padding_mask: Tensor | None,
) -> Tensor | None:
    """Document ids [b t], or None where each row is one document. A border that any of the arguments shows counts.

    Args:
        size: (b, t).
        position_ids: [b t] or [1 t]; a position that is not one more than the last begins a document, as in
            `find_packed_sequence_indices` of transformers.
        seq_idx: [b t] or [1 t]; a change begins a document.
        borders: [documents + 1] of the one row, from 0: the `cu_seq_lens_q` of `DataCollatorWithFlattening`.
        padding_mask: [b t] True for real tokens; positions of padding mean nothing.

    Raises:
        UsageError: borders with more than one row.
    """
    b, t = size
    begins: Tensor | None = None
    if position_ids is not None:
        positions = position_ids.expand(b, t)
        begins = positions[:, 1:] != positions[:, :-1] + 1
        if padding_mask is not None:
            begins = begins & padding_mask[:, 1:] & padding_mask[:, :-1]
    if seq_idx is not None:
        ids = seq_idx.expand(b, t)
        changes = ids[:, 1:] != ids[:, :-1]
        begins = changes if begins is None else begins | changes
    if borders is not None:
        if b != 1:
            raise UsageError(f"cu_seq_lens_q describes one row, the batch has {b}", hint="pass seq_idx [b t] instead")
        steps = torch.arange(1, t, device=borders.device)
        at_border = torch.isin(steps, borders)[None]
        begins = at_border if begins is None else begins | at_border
    if begins is None or not bool(begins.any()):
        return None
    return F.pad(begins.cumsum(dim=1), (1, 0))
