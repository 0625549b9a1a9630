"""Bytes that a forward pass keeps for the backward pass, per token, from the model's sizes alone. Imports no torch.

With PyTorch's operations the coefficients are a least-squares fit, rounded to whole bytes, to the tensors that autograd
saved in this program's own sublayers (14 random sizes, residual 0.3%); with the compiled kernels of a CPU they are a
sum over what those save. A test counts both again. Letters: d width, i inner size, n state per group, h heads, q chunk,
f feed-forward, t context.
"""

from __future__ import annotations

import math

from mamba_slm.model.config import ModelConfig
from mamba_slm.model.pattern import ATTENTION, FEED_FORWARD, MAMBA, OWN_LETTERS
from mamba_slm.model.sublayer_plugin import plugins_of

STREAM_BYTES = 8
"""Per token and width outside the sublayers: the residual stream before and after the final norm."""

SCAN_PIECE_TOKENS = 256
"""Tokens between the states that the scan keeps; `ops.ssd_training`, which cannot be imported without torch."""

NATIVE_CHUNK_TOKENS = 64
"""The same of the compiled scan; `ops.native.scan`."""


def sublayer_bytes_per_token(
    config: ModelConfig,
    kind: str,
    *,
    context_tokens: int,
    precision: str,
    on_gpu: bool = False,
    kernels: str = "native",
) -> float:
    """Saved by one sublayer, per token; under autocast (bf16, fp16) the scan and the norms stay float32.

    On a CPU the scan keeps its inputs, its outputs and the states between pieces; on a GPU its inputs, the states
    between chunks and the products inside them (`ops.ssd.automatic_ssd_backend`).

    Args:
        kernels: "native" for the compiled ones of a CPU, "torch" for PyTorch's operations; counts on a CPU only.
    """
    if kind not in OWN_LETTERS:
        plugin, settings = plugins_of(config)[kind]
        return 4 * plugin.saved_values(config, settings)  # as its author says, and the conformance kit counts
    if not on_gpu and kernels == "native":
        return native_bytes_per_token(config, kind, context_tokens=context_tokens, is_half=precision != "fp32")
    c, is_half = config, precision != "fp32"
    d, i, h = c.hidden_size, c.inner_size, c.num_ssm_heads
    n, q = c.num_groups * c.state_size, min(c.chunk_size, context_tokens)
    kv = c.num_kv_heads * c.head_dim
    if kind == MAMBA:
        states = math.ceil(context_tokens / SCAN_PIECE_TOKENS) + 1  # the one behind the end, too
        scan = 4 * i - 4 * h + 4 * i * n * states / context_tokens
        if on_gpu:
            scan = 16 * i + 4 * h + 8 * q * h + 4 * q + 8 * i * n / q
        return scan + (6 * d + 30 * i + 24 * n + 13 * h if is_half else 8 * d + 36 * i + 32 * n + 17 * h)
    if kind == ATTENTION:
        low = 2 if is_half else 4
        packed = context_tokens * low if on_gpu else d * low  # a row of the mask per query; documents joined again
        return packed + 5 * c.num_heads + (10 * d + 4 * kv if is_half else 16 * d + 8 * kv)
    assert kind == FEED_FORWARD
    return 6 * d + 8 * c.feed_forward_size if is_half else 8 * d + 16 * c.feed_forward_size


def native_bytes_per_token(config: ModelConfig, kind: str, *, context_tokens: int, is_half: bool) -> float:
    """`sublayer_bytes_per_token` with the compiled kernels of a CPU.

    Each keeps its input and, of what it made, only what it cannot make again: a norm a scale per token, attention a sum
    per head, the scan the states between its chunks, SwiGLU nothing. Projections keep their input.
    """
    c, low = config, 2 if is_half else 4
    d, i, n, h = c.hidden_size, c.inner_size, c.num_groups * c.state_size, c.num_ssm_heads
    normed = 4 * d + 4 + low * d
    if kind == MAMBA:
        states = 4 * i * c.state_size * math.ceil(context_tokens / NATIVE_CHUNK_TOKENS) / context_tokens
        convolved, steps, scanned = 4 * (i + 2 * n), 8 * h, 4 * i + 4 * c.num_groups
        return normed + low * (2 * i + 2 * n + h) + convolved + steps + states + scanned + low * i
    if kind == ATTENTION:
        return normed + low * (2 * d + 2 * c.num_kv_heads * c.head_dim) + 4 * c.num_heads
    assert kind == FEED_FORWARD
    return normed + low * 3 * c.feed_forward_size


def activation_bytes(
    config: ModelConfig,
    *,
    tokens_at_once: int,
    context_tokens: int,
    precision: str,
    gradient_checkpointing: bool,
    on_gpu: bool = False,
    kernels: str = "native",
) -> float:
    """Peak of what is kept for the backward pass of one micro-batch.

    With gradient checkpointing: the input of every sublayer, and all of the largest one while it is computed again.
    """
    sublayers = [
        sublayer_bytes_per_token(
            config, kind, context_tokens=context_tokens, precision=precision, on_gpu=on_gpu, kernels=kernels
        )
        for kind in config.pattern
    ]
    stream = STREAM_BYTES * config.hidden_size
    kept = 4 * config.hidden_size * len(sublayers) + max(sublayers) if gradient_checkpointing else sum(sublayers)
    return tokens_at_once * (stream + kept)
