"""Causal attention with grouped key and value heads: the definition and the fast version.

Letters: b batch, t query time, s key time, h heads, k key-value heads, d head dim.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba_slm.ops.shapes import check_shapes


def attention_mask(
    query_positions: Tensor,
    key_positions: Tensor,
    *,
    document_ids: Tensor | None = None,
    key_valid: Tensor | None = None,
    window: int = 0,
) -> Tensor | None:
    """Who may see whom, as [b 1 t s] booleans; None where plain causality over t == s, or t == 1, says it all.

    Args:
        query_positions: [b t]; key_positions: [b s]. The t queries are the last t of the s keys.
        document_ids: [b s] (t == s); tokens see only their own document.
        key_valid: [b s]; False keys are padding, seen by nobody but themselves (a padded query must see something).
        window: a query sees the keys less than this many positions back, itself included; 0 means all.
    """
    t, s = query_positions.shape[1], key_positions.shape[1]
    if document_ids is None and key_valid is None and (not window or window >= s) and (t == s or t == 1):
        return None
    query_slot = torch.arange(s - t, s, device=query_positions.device)[:, None]
    key_slot = torch.arange(s, device=query_positions.device)[None, :]
    allowed = (key_slot <= query_slot)[None]
    if window:
        allowed = allowed & (query_positions[:, :, None] - key_positions[:, None, :] < window)
    if document_ids is not None:
        allowed = allowed & (document_ids[:, -t:, None] == document_ids[:, None, :])
    if key_valid is not None:
        allowed = allowed & (key_valid[:, None, :] | (query_slot == key_slot))
    return allowed[:, None]


def alibi_slopes(num_heads: int) -> Tensor:
    """[h] slopes of the linear distance penalty. Source: Press et al., arXiv:2108.12409."""
    power = 2 ** math.floor(math.log2(num_heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    slopes += [2 ** (-4 * (2 * i + 1) / power) for i in range(num_heads - power)]
    return torch.tensor(slopes)


def alibi_bias(query_positions: Tensor, key_positions: Tensor, slopes: Tensor) -> Tensor:
    """-slope * distance for every head, query and key: [b t], [b s], [h] to [b h t s]."""
    distance = query_positions[:, :, None] - key_positions[:, None, :]
    return -slopes[None, :, None, None] * distance[:, None].float()


def attention_reference(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """softmax(q kᵀ / sqrt(d) + bias) v under the mask, all in float32: the definition.

    Args:
        q: [b t h d]; k, v: [b s k d]; head i uses key-value head i // (h // k). The queries are the last t of the s
            keys.
        mask: from `attention_mask`; None means causal.
        bias: [b or 1, h, t, s] added to the scores, or None.

    Returns:
        [b t h d] in the dtype of q.

    Raises:
        ShapeError: two arguments disagree about one of the letters.
    """
    size = check_shapes(q=(q, "b t h d"), k=(k, "b s k d"), v=(v, "b s k d"))
    t, s = size["t"], size["s"]
    repeat = size["h"] // size["k"]
    k32, v32 = (m.float().repeat_interleave(repeat, dim=2) for m in (k, v))
    scores = torch.einsum("bthd,bshd->bhts", q.float(), k32) / math.sqrt(size["d"])
    if bias is not None:
        scores = scores + bias
    if mask is None:
        mask = torch.ones(t, s, dtype=torch.bool, device=q.device).tril(diagonal=s - t)
    weights = scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)
    return torch.einsum("bhts,bshd->bthd", weights, v32).to(q.dtype)


def attention(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """`attention_reference` through PyTorch's scaled_dot_product_attention; keys and values are not expanded."""
    t, s = q.shape[1], k.shape[1]
    if t == 1 and bias is None and is_bf16_decoding(q):
        return attention_of_one_query(q, k, v, mask=mask)
    attn_mask = mask
    if bias is not None:
        if mask is None:
            mask = torch.ones(t, s, dtype=torch.bool, device=q.device).tril(diagonal=s - t)
        attn_mask = bias.to(q.dtype).masked_fill(~mask, -torch.inf)
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=attn_mask,
        is_causal=attn_mask is None and t == s and t > 1,
        enable_gqa=q.shape[2] != k.shape[2],
    )
    return out.transpose(1, 2)


def is_bf16_decoding(q: Tensor) -> bool:
    """Whether PyTorch's own attention is several times slower than two products: one bfloat16 query on a CPU."""
    traced = torch.is_grad_enabled() or torch.compiler.is_compiling()
    return q.dtype == torch.bfloat16 and q.device.type == "cpu" and not traced


def attention_of_one_query(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """`attention` for q [b 1 h d] as two matrix products in float32; the heads that share keys are one matrix."""
    b, _, h, d = q.shape
    kv = k.shape[2]
    grouped = q.reshape(b * kv, h // kv, d).float()
    keys, values = (m.transpose(1, 2).float().reshape(b * kv, -1, d) for m in (k, v))
    scores = torch.bmm(grouped, keys.transpose(1, 2)).mul_(1 / math.sqrt(d))  # [b*k h/k s]
    if mask is not None:
        scores = scores.view(b, h, -1).masked_fill_(~mask[:, 0], -torch.inf).view_as(scores)
    return torch.bmm(scores.softmax(dim=-1), values).view(b, 1, h, d).to(q.dtype)
