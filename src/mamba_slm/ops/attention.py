"""Causal attention with grouped key and value heads: the definition and the fast version.

Letters: b batch, t query time, s key time, h heads, k key-value heads, d head dim.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba_slm.ops.attention_by_document import attention_by_document, document_lengths, is_worth_it
from mamba_slm.ops.kernels import loaded_kernel
from mamba_slm.ops.shapes import check_shapes

MASK_ELEMENTS = 1 << 26
"""Queries times keys whose mask exists at once: 1 byte each, and 4 as the float32 that PyTorch makes of it."""


def document_starts(document_ids: Tensor) -> Tensor:
    """The slot where the document of each token begins, [b t] to [b t]; an id that comes again is another document."""
    slots = torch.arange(document_ids.shape[1], device=document_ids.device).expand(document_ids.shape)
    changed = F.pad(document_ids[:, 1:] != document_ids[:, :-1], (1, 0))
    return torch.where(changed, slots, 0).cummax(dim=1).values


def attention_mask(
    query_positions: Tensor, key_positions: Tensor, *, key_valid: Tensor | None = None, window: int = 0
) -> Tensor | None:
    """Who may see whom by what `first_key` cannot say, as [b 1 t s] booleans; None where that is nothing.

    Args:
        query_positions: [b t]; key_positions: [b s]. The t queries are the last t of the s keys.
        key_valid: [b s]; False keys are padding, seen by nobody but themselves (a padded query must see something).
        window: a query sees the keys less than this many positions back, itself included; 0 means all.
    """
    t, s = query_positions.shape[1], key_positions.shape[1]
    if key_valid is None and not window:
        return None
    allowed = None
    if window:
        allowed = query_positions[:, :, None] - key_positions[:, None, :] < window
    if key_valid is not None:
        slots = torch.arange(s, device=key_positions.device)
        seen = key_valid[:, None, :] | (slots[s - t :, None] == slots)
        allowed = seen if allowed is None else allowed & seen
    assert allowed is not None
    return allowed[:, None]


def causal_mask(size: tuple[int, int], first_key: Tensor | None, mask: Tensor | None, device: torch.device) -> Tensor:
    """Causality of `size` (t, s), `first_key` and `mask` as one mask, [b or 1, 1, t, s]."""
    t, s = size
    slots = torch.arange(s, device=device)
    allowed = (slots <= slots[s - t :, None])[None, None]
    if first_key is not None:
        allowed = allowed & (slots >= first_key[:, None, :, None])
    return allowed if mask is None else allowed & mask


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
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    first_key: Tensor | None = None,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """softmax(q kᵀ / sqrt(d) + bias) v over the keys that each query sees, all in float32: the definition.

    Args:
        q: [b t h d]; k, v: [b s k d]; head i uses key-value head i // (h // k). The queries are the last t of the s
            keys, and see no later ones.
        first_key: [b t] integers: the first slot that each query sees, at most its own (documents, windows, padding on
            the left); None means 0.
        mask: [b 1 t s], what is seen besides, from `attention_mask`; None means all.
        bias: [b or 1, h, t, s] added to the scores, or None.

    Returns:
        [b t h d] in the dtype of q.

    Raises:
        ShapeError: two arguments disagree about one of the letters.
    """
    size = check_shapes(q=(q, "b t h d"), k=(k, "b s k d"), v=(v, "b s k d"))
    repeat = size["h"] // size["k"]
    k32, v32 = (m.float().repeat_interleave(repeat, dim=2) for m in (k, v))
    scores = torch.einsum("bthd,bshd->bhts", q.float(), k32) / math.sqrt(size["d"])
    if bias is not None:
        scores = scores + bias
    seen = causal_mask((size["t"], size["s"]), first_key, mask, q.device)
    weights = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1)
    return torch.einsum("bhts,bshd->bthd", weights, v32).to(q.dtype)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    first_key: Tensor | None = None,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """`attention_reference` by a loaded kernel or PyTorch's scaled_dot_product_attention; keys are not expanded."""
    kernel = loaded_kernel("attention", q.device.type, q, k, v, first_key=first_key, mask=mask, bias=bias)
    if kernel is not None:
        return kernel(q, k, v, first_key=first_key, mask=mask, bias=bias)  # type: ignore[no-any-return]
    t, s = q.shape[1], k.shape[1]
    if first_key is not None and mask is None and bias is None and t == s and q.device.type == "cpu":
        lengths = None if torch.compiler.is_compiling() else document_lengths(first_key)
        if lengths is not None and is_worth_it(len(lengths), (q.shape[0], t)):
            return attention_by_document(q, k, v, lengths)
    is_causal = first_key is None and mask is None and bias is None and t == s and t > 1
    if not is_causal and t > 1 and t * s > MASK_ELEMENTS and not torch.compiler.is_compiling():
        return attention_in_blocks(q, k, v, first_key=first_key, mask=mask, bias=bias)
    seen = None
    if not is_causal and (first_key is not None or mask is not None or t > 1):
        seen = causal_mask((t, s), first_key, mask, q.device)
    if t == 1 and bias is None and is_bf16_decoding(q):
        return attention_of_one_query(q, k, v, mask=seen)
    if bias is not None:
        bias = bias.to(q.dtype)
        seen = bias if seen is None else bias.masked_fill(~seen, -torch.inf)
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=seen,
        is_causal=is_causal,
        enable_gqa=q.shape[2] != k.shape[2],
    )
    return out.transpose(1, 2)


def attention_in_blocks(
    q: Tensor, k: Tensor, v: Tensor, *, first_key: Tensor | None, mask: Tensor | None, bias: Tensor | None
) -> Tensor:
    """`attention` for some queries at a time, each with the keys up to its own, so that no mask is large."""
    t, s = q.shape[1], k.shape[1]
    rows = max(1, MASK_ELEMENTS // s)
    blocks = []
    for start in range(0, t, rows):
        end = min(start + rows, t)
        keys = s - t + end
        blocks.append(
            attention(
                q[:, start:end],
                k[:, :keys],
                v[:, :keys],
                first_key=None if first_key is None else first_key[:, start:end],
                mask=None if mask is None else mask[:, :, start:end, :keys],
                bias=None if bias is None else bias[:, :, start:end, :keys],
            )
        )
    return torch.cat(blocks, dim=1)


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
