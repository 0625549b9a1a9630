"""What a token needs at least: FLOPs in training and prefill, bytes in decoding. From the config alone, no torch."""

from __future__ import annotations

from mamba_slm.evaluation.bench.cells import Cell
from mamba_slm.evaluation.bench.names import BYTES_PER_VALUE, CACHE_BYTES, ENGINES, precision_of
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import (
    count_parameters,
    forward_flops_per_token,
    state_bytes,
    train_flops_per_token,
)


def flops_per_token(config: ModelConfig, cell: Cell) -> float:
    """Of training or prefill, averaged over the sequence.

    Training is three forward passes; what an implementation recomputes does not count. Prefill needs the head for its
    last token only.
    """
    if cell.task == "train":
        return train_flops_per_token(config, cell.tokens)
    head = 2.0 * config.hidden_size * config.vocab_size
    return forward_flops_per_token(config, cell.tokens) - head * (1 - 1 / cell.tokens)


def step_bytes(
    config: ModelConfig, cell: Cell, contender: str, *, decode_tokens: int, weight_bytes: int | None = None
) -> float:
    """Bytes that one step of decoding touches: the weights once, and state, keys and values of every row.

    Of an embedding beside the head, one row is read, which is left out; and what is written does not count.

    Args:
        decode_tokens: the state is that after half of them.
        weight_bytes: of the contender's weights, where they are known.
    """
    precision = precision_of(contender, cell.precision)
    if weight_bytes is None:
        weight_bytes = read_weight_bytes(config, precision)
    engine = contender.partition("-")[0] if contender in ENGINES else ""
    cache_bytes = CACHE_BYTES.get(engine, 4 if precision == "fp32" else 2)
    return weight_bytes + cell.batch * state_bytes(config, cell.tokens + decode_tokens // 2, cache_bytes=cache_bytes)


def work_per_token(
    config: ModelConfig, cell: Cell, contender: str, *, decode_tokens: int, weight_bytes: int | None = None
) -> float:
    """FLOPs (train, prefill), or the bytes of a step over its rows (decode)."""
    if cell.task != "decode":
        return flops_per_token(config, cell)
    step = step_bytes(config, cell, contender, decode_tokens=decode_tokens, weight_bytes=weight_bytes)
    return step / cell.batch


def read_weight_bytes(config: ModelConfig, precision: str) -> int:
    """Bytes of the weights that decoding a token reads, scales of blocks left out."""
    unread = 0 if config.tie_embeddings else config.vocab_size * config.hidden_size
    return round(BYTES_PER_VALUE[precision] * (count_parameters(config).total - unread))


def tokens_per_round(cell: Cell, *, decode_tokens: int) -> int:
    """Tokens that one round processes, in all rows."""
    return cell.batch * (decode_tokens if cell.task == "decode" else cell.tokens)
