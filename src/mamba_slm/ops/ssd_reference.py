"""The Mamba-2 recurrence, one token at a time: the definition that every other path is tested against.

Letters: b batch, t time, h heads, p head dim, g groups, n state.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mamba_slm.ops.shapes import check_shapes


def ssd_reference(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    state: Tensor | None = None,
    document_ids: Tensor | None = None,
    chunk_size: int = 0,
) -> tuple[Tensor, Tensor]:
    """Scan a sequence one token at a time.

        state[t] = exp(dt[t] * A) * state[t-1] + dt[t] * outer(x[t], B[t])
        y[t]     = state[t] @ C[t]

    Args:
        x: [b t h p] inputs per head.
        dt: [b t h] step sizes after softplus; > 0, or exactly 0 where a position is padding (then it changes nothing).
        A: [h] decay rates; < 0, so exp(dt * A) lies in (0, 1).
        B, C: [b t g n] input and output directions; head i uses group i // (h // g).
        state: [b h p n] float32 state from an earlier call; None means zeros.
        document_ids: [b t] integers; where the id changes the state restarts from zero. The first position continues
            `state` whatever its id.
        chunk_size: not used here; part of the signature that all backends share.

    Returns:
        y [b t h p] in the dtype of x, and the float32 state after the last token.

    Raises:
        ShapeError: two arguments disagree about one of the letters.

    Cost: t * b * h * p * n multiply-adds, twice; sequential in t.
    Source: Dao and Gu, "Transformers are SSMs", arXiv:2405.21060.
    """
    size = check_shapes(x=(x, "b t h p"), dt=(dt, "b t h"), A=(A, "h"), B=(B, "b t g n"), C=(C, "b t g n"))
    x32, dt32, A32 = x.float(), dt.float(), A.float()
    B32, C32 = (m.float().repeat_interleave(size["h"] // size["g"], dim=2) for m in (B, C))  # [b t h n]
    if state is None:
        state = x32.new_zeros(size["b"], size["h"], size["p"], size["n"])

    outputs = []
    for i in range(size["t"]):
        if document_ids is not None and i > 0:
            continues = (document_ids[:, i] == document_ids[:, i - 1])[:, None, None, None]
            state = torch.where(continues, state, torch.zeros_like(state))
        decay = torch.exp(dt32[:, i] * A32)[..., None, None]  # [b h 1 1]
        state = decay * state + torch.einsum("bh,bhp,bhn->bhpn", dt32[:, i], x32[:, i], B32[:, i])
        outputs.append(torch.einsum("bhpn,bhn->bhp", state, C32[:, i]))
    return torch.stack(outputs, dim=1).to(x.dtype), state
