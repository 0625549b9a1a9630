"""Attention over packed documents on GPUs: PyTorch's FlexAttention, which skips blocks that nobody sees.

One document is left to PyTorch's own attention, whose causal kernel needs no mask. With several, that would take a
t x t mask, and a slower kernel with it.

Letters: b batch, t time, h heads, k key-value heads, d head dim.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from mamba_slm.ops.attention import attention_reference
from mamba_slm.ops.kernels import Kernel
from mamba_slm.ops.triton.arguments import first_reason, refused_tensor
from mamba_slm.ops.triton.start import TritonKernels, difference

BLOCK_TOKENS = 128
"""FlexAttention's tiles are at most this large."""
SMALLEST_HEAD = 16
FLOAT32_TOLERANCE = 5e-3
"""float32 products are TF32 where the program allowed it."""


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    first_key: Tensor | None = None,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """See `mamba_slm.ops.attention.attention_reference`; takes `first_key` and neither mask nor bias."""
    assert first_key is not None
    grouped = q.shape[2] != k.shape[2]
    block_mask = block_mask_of(first_key, BLOCK_TOKENS)
    heads_first = (m.transpose(1, 2) for m in (q, k, v))
    return compiled_flex_attention()(*heads_first, block_mask=block_mask, enable_gqa=grouped).transpose(1, 2)


@functools.cache
def compiled_flex_attention() -> Callable[..., Any]:
    """Compiled on first use, for any length. (On CPUs it has no backward pass.)"""
    return torch.compile(flex_attention, dynamic=True)


_last_mask: tuple[weakref.ref[Tensor], BlockMask] | None = None


def block_mask_of(first_key: Tensor, block_tokens: int) -> BlockMask:
    """The mask of causality and `first_key` [b t]; all sublayers of a call ask for the same one."""
    global _last_mask
    if _last_mask is not None and _last_mask[0]() is first_key:
        return _last_mask[1]
    made = interval_mask(first_key, block_tokens)
    _last_mask = weakref.ref(first_key), made
    return made


def interval_mask(first_key: Tensor, block_tokens: int) -> BlockMask:
    """Token i sees the keys from first_key[i] to i: [b t] to a mask that knows which blocks are empty, full or mixed.

    A row of blocks sees from the least first_key of its tokens on; a block between the largest and the diagonal is
    full. No t x t matrix is made, and no value is read back from the device.
    """
    b, t = first_key.shape
    blocks = -(-t // block_tokens)
    last = first_key[:, -1:].expand(-1, blocks * block_tokens - t)
    by_block = torch.cat([first_key, last], dim=1).view(b, blocks, block_tokens)
    begins, full_from = by_block.amin(dim=2) // block_tokens, -(-by_block.amax(dim=2) // block_tokens)  # [b blocks]
    numbers = torch.arange(blocks, device=first_key.device)
    seen = (numbers >= begins[..., None]) & (numbers <= numbers[:, None])  # [b blocks blocks]
    full = (numbers >= full_from[..., None]) & (numbers < numbers[:, None])

    def allowed(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (key >= first_key[batch, query])

    mixed_count, mixed = listed(seen & ~full)
    full_count, full_list = listed(full)
    return BlockMask.from_kv_blocks(
        mixed_count, mixed, full_count, full_list, BLOCK_SIZE=block_tokens, mask_mod=allowed, seq_lengths=(t, t)
    )


def listed(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """How many of each row of [b i j] are chosen, [b 1 i], and all numbers with the chosen ones first, [b 1 i j]."""
    order = chosen.to(torch.int8).argsort(dim=2, descending=True, stable=True)
    return chosen.sum(dim=2, dtype=torch.int32)[:, None], order.to(torch.int32)[:, None].contiguous()


def refuses(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    first_key: Tensor | None = None,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
) -> str | None:
    """Why FlexAttention is not to take these, or None."""
    d = q.shape[3]
    if first_key is None or mask is not None or bias is not None:
        return "PyTorch's own kernels are for one document, masks and biases"
    if q.shape[1] != k.shape[1]:
        return "the queries continue earlier keys"
    if d < SMALLEST_HEAD or d & (d - 1):
        return f"a head of {d} is no power of two from {SMALLEST_HEAD} on"
    return first_reason(*(refused_tensor(name, m) for name, m in (("q", q), ("k", k), ("v", v))))


def self_test(device: torch.device) -> str | None:
    """See `TritonKernels`. Longer than a block, so that one is skipped and one is full."""
    t = 3 * BLOCK_TOKENS + 5
    first_key = torch.zeros(1, t, dtype=torch.int64, device=device)
    first_key[:, 2 * BLOCK_TOKENS + 3 :] = 2 * BLOCK_TOKENS + 3
    q, k, v = (torch.randn(1, t, heads, 32, device=device) for heads in (4, 2, 2))
    return difference(
        functools.partial(attention_reference, first_key=first_key),
        functools.partial(attention, first_key=first_key),
        *(q, k, v),
        tolerance=FLOAT32_TOLERANCE,
    )


KERNELS = TritonKernels(
    operations={"attention": Kernel(name="FlexAttention", run=attention, refuses=refuses)},
    self_test=self_test,
)
