"""The quantizers that `gguf` lacks: Q4_K and Q6_K, in numpy.

A superblock is 256 neighbouring values of one row. Both formats store one float16 scale per superblock and small
integer scales per sub-block (Q4_K: 8 of 32 values, with minima; Q6_K: 16 of 16 values), then the values in 4 or 6 bits.
The layout and the search for scales are those of `quantize_row_q4_K_ref` and `quantize_row_q6_K_ref` in ggml-quants.c
(llama.cpp at 0c1e57098).

Letters: s superblocks, j sub-blocks of a superblock, e values of a sub-block.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

SUPERBLOCK = 256
Q4_K_BYTES, Q6_K_BYTES = 144, 210
CHUNK_SUPERBLOCKS = 1024
"""Superblocks searched at once: 1 MiB of float32, so that the candidates of the search stay in cache."""
TINY = 1e-8
"""Values below this are zeros: float16, which holds the scales, cannot tell them apart."""

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


def quantize_q4_k(values: Floats) -> Bytes:
    """Values [... n] as Q4_K, uint8 [... n / 256 * 144]: q in 0…15 stands for d · scale · q - dmin · minimum.

    Raises:
        ValueError: the last axis is not a multiple of 256.
    """
    return over_superblocks(values, q4_k_superblocks, Q4_K_BYTES)


def quantize_q6_k(values: Floats) -> Bytes:
    """Values [... n] as Q6_K, uint8 [... n / 256 * 210]: q in -32…31 stands for d · scale · q.

    Raises:
        ValueError: the last axis is not a multiple of 256.
    """
    return over_superblocks(values, q6_k_superblocks, Q6_K_BYTES)


def over_superblocks(values: Floats, quantize: Callable[[Floats], Bytes], size: int) -> Bytes:
    """Apply `quantize` ([s 256] to [s size] bytes) to pieces of `CHUNK_SUPERBLOCKS`."""
    if values.shape[-1] % SUPERBLOCK:
        raise ValueError(f"rows of {values.shape[-1]} values are not whole superblocks of {SUPERBLOCK}")
    blocks = np.asarray(values, dtype=np.float32).reshape(-1, SUPERBLOCK)
    packed = np.empty((len(blocks), size), dtype=np.uint8)
    for start in range(0, len(blocks), CHUNK_SUPERBLOCKS):
        piece = blocks[start : start + CHUNK_SUPERBLOCKS]
        packed[start : start + CHUNK_SUPERBLOCKS] = quantize(np.where(np.abs(piece) < TINY, np.float32(0), piece))
    return packed.reshape(*values.shape[:-1], -1)


def inverse(x: Floats) -> Floats:
    """1 / x, and 0 where x is 0."""
    return np.divide(1.0, x, out=np.zeros_like(x), where=x != 0)


def q4_k_superblocks(blocks: Floats) -> Bytes:
    """[s 256] float32 to [s 144] bytes."""
    x = blocks.reshape(-1, 8, 32)
    scales, minima = search_scale_and_minimum(x)
    d, dmin = ((side.max(axis=1) / 63).astype(np.float16) for side in (scales, minima))
    small_scales, small_minima = (
        np.clip(np.rint(side * inverse(side.max(axis=1, keepdims=True) / 63)), 0, 63).astype(np.uint8)
        for side in (scales, minima)
    )
    step = d.astype(np.float32)[:, None] * small_scales
    offset = dmin.astype(np.float32)[:, None] * small_minima
    q = np.clip(np.rint((x + offset[..., None]) * inverse(step)[..., None]), 0, 15).astype(np.uint8)

    packed = np.empty((len(x), Q4_K_BYTES), dtype=np.uint8)
    packed[:, 0:2] = d[:, None].view(np.uint8)
    packed[:, 2:4] = dmin[:, None].view(np.uint8)
    packed[:, 4:16] = pack_six_bits(small_scales, small_minima)
    low, high = q[:, 0::2], q[:, 1::2]  # sub-blocks 0 and 1 share 32 bytes, then 2 and 3, …
    packed[:, 16:] = (low | high << 4).reshape(len(x), -1)
    return packed


def pack_six_bits(scales: Bytes, minima: Bytes) -> Bytes:
    """Eight scales and eight minima [s 8] of 6 bits in 12 bytes; the last four leave their top bits with the first."""
    first = scales[:, :4] | (scales[:, 4:] >> 4) << 6
    second = minima[:, :4] | (minima[:, 4:] >> 4) << 6
    third = (scales[:, 4:] & 15) | (minima[:, 4:] & 15) << 4
    return np.concatenate([first, second, third], axis=1).astype(np.uint8)


def search_scale_and_minimum(x: Floats, *, levels: int = 15, candidates: int = 21) -> tuple[Floats, Floats]:
    """Scale and minimum of every sub-block [s j e] for which scale · q - minimum is nearest, both [s j] and ≥ 0.

    Each candidate step gives integers q; the best scale and minimum for these q have a closed form, and the next
    candidate starts from the best minimum so far. The error is weighted by the root mean square of the sub-block plus
    the magnitude of the value.
    """
    weight = np.sqrt(np.mean(x * x, axis=-1, keepdims=True)) + np.abs(x)
    low, high = np.minimum(x.min(axis=-1), 0), x.max(axis=-1)
    sum_w, sum_x = weight.sum(axis=-1), (weight * x).sum(axis=-1)

    def integers(start: Floats, steps: float) -> Floats:
        """q of every value when `steps` steps reach from `start` to the largest value."""
        per_step = np.float32(steps) * inverse(high - start)
        return np.clip(np.rint((x - start[..., None]) * per_step[..., None]), 0, levels)

    best_scale, best_low = (high - low) / levels, low
    q = integers(low, levels)
    best_error = (weight * (best_scale[..., None] * q + low[..., None] - x) ** 2).sum(axis=-1)
    for number in range(candidates):
        q = integers(best_low, levels - 1 + 0.1 * number)
        weighted = weight * q
        sum_q, sum_qq, sum_xq = weighted.sum(axis=-1), (weighted * q).sum(axis=-1), (weighted * x).sum(axis=-1)
        determinant = sum_w * sum_qq - sum_q * sum_q
        over = inverse(determinant)
        scale, start = (sum_w * sum_xq - sum_x * sum_q) * over, (sum_qq * sum_x - sum_q * sum_xq) * over
        positive = start > 0  # the format can only subtract
        scale, start = np.where(positive, sum_xq * inverse(sum_qq), scale), np.where(positive, 0, start)
        error = (weight * (scale[..., None] * q + start[..., None] - x) ** 2).sum(axis=-1)
        better = (error < best_error) & (determinant > 0)
        best_error = np.where(better, error, best_error)
        best_scale, best_low = np.where(better, scale, best_scale), np.where(better, start, best_low)
    return np.where(high == low, 0, best_scale), -best_low  # all equal: nothing but the minimum


def q6_k_superblocks(blocks: Floats) -> Bytes:
    """[s 256] float32 to [s 210] bytes."""
    x = blocks.reshape(-1, 16, 16)
    scales = search_signed_scale(x)
    largest = np.take_along_axis(scales, np.abs(scales).argmax(axis=1, keepdims=True), axis=1)
    d = (largest / -128).astype(np.float16)
    small = np.clip(np.rint(scales * -128 * inverse(largest)), -128, 127).astype(np.int8)
    step = d.astype(np.float32) * small
    q = (np.clip(np.rint(x * inverse(step)[..., None]), -32, 31) + 32).astype(np.uint8)
    q[np.broadcast_to((step == 0)[..., None], q.shape)] = 32  # stands for 0 whatever the scale

    halves = q.reshape(-1, 2, 4, 32)  # two halves of 128 values, each four runs of 32
    low, high = halves & 15, halves >> 4
    packed = np.empty((len(x), Q6_K_BYTES), dtype=np.uint8)
    packed[:, :128] = np.concatenate([low[:, :, 0] | low[:, :, 2] << 4, low[:, :, 1] | low[:, :, 3] << 4], -1).reshape(
        len(x), -1
    )
    shifted = high << np.array([0, 2, 4, 6], dtype=np.uint8)[:, None]
    packed[:, 128:192] = np.bitwise_or.reduce(shifted, axis=2).reshape(len(x), -1)
    packed[:, 192:208] = small.view(np.uint8)
    packed[:, 208:210] = d.view(np.uint8)
    return packed


def search_signed_scale(x: Floats, *, levels: int = 32) -> Floats:
    """The scale of every sub-block [s j e] for which scale · q with q in -32…31 is nearest, [s j], of either sign.

    The value of largest magnitude lies near -32, the end that has one more level. Errors are weighted by x².
    """
    at = np.abs(x).argmax(axis=-1, keepdims=True)
    extreme = np.take_along_axis(x, at, axis=-1)
    over = inverse(extreme)
    best, best_gain = np.zeros(x.shape[:-1], np.float32), np.zeros(x.shape[:-1], np.float32)
    for shift in (0, *range(-9, 0), *range(1, 10)):
        q = np.clip(np.rint(x * (-(levels + 0.1 * shift) * over)), -levels, levels - 1)
        weighted = x * x * q
        sum_xq, sum_qq = (weighted * x).sum(axis=-1), (weighted * q).sum(axis=-1)
        scale = sum_xq * inverse(sum_qq)
        gain = scale * sum_xq  # what it takes off the weighted sum of squares
        better = gain > best_gain
        best, best_gain = np.where(better, scale, best), np.where(better, gain, best_gain)
    return best
