"""What a benchmark measures: one cell per task, precision and length, each with its contenders. No torch.

A cell is one line of work for every contender, for example "decode after 2,048 tokens in fp32".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import forward_flops_per_token, state_bytes, train_flops_per_token, weight_bytes
from mamba_slm.model.pattern import ATTENTION, FEED_FORWARD

Task = Literal["train", "prefill", "decode"]
TASKS = ("train", "prefill", "decode")
PRECISIONS = ("fp32", "bf16")
OURS, PLAIN, GRANITE, LLAMA = "ours", "plain", "granite", "llama"
PEERS = (GRANITE, LLAMA)
ENGINES = {
    "onnx-fp32": "ONNX Runtime fp32",
    "onnx-int8": "ONNX Runtime int8",
    "onnx-int4": "ONNX Runtime int4",
    "llama.cpp-q8_0": "llama.cpp Q8_0",
    "llama.cpp-q4_0": "llama.cpp Q4_0",
}
"""Other programs that run the same weights, exported; for inference, in the cells of fp32."""
ENGINE_CACHE_BYTES = {"onnx": 4, "llama.cpp": 2}
"""Bytes of a value in their key-value caches."""
BYTES_PER_VALUE = {"fp32": 4, "bf16": 2}
EQUAL_SIZE_TOLERANCE = 0.01
WIDTH_STEPS = (64, 32, 16, 8, 4, 2, 1)


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """What to measure."""

    tasks: tuple[str, ...] = TASKS
    """train, prefill, decode."""

    lengths: tuple[int, ...] = (512, 1024, 2048, 4096)
    """Tokens of the sequence: trained on, prefilled, or read before the first decoded one."""

    peers: tuple[str, ...] = PEERS
    """granite: transformers' GraniteMoeHybrid with the same weights; llama: its Llama of equal parameters."""

    engines: tuple[str, ...] = ()
    """Names in `ENGINES`."""

    compiled: bool = False
    """Decode with a compiled step, and beside it (`plain`) without."""

    train_precisions: tuple[str, ...] = ("bf16",)
    """Autocast for the training step; its weights are float32 in any case."""

    inference_precisions: tuple[str, ...] = PRECISIONS
    """Dtype of the weights for prefill and decode."""

    threads: int = 1
    """CPU threads of every contender."""

    rounds: int = 5
    """How often each contender is timed; they take turns."""

    long_round_rounds: int = 3
    """Rounds of a cell in which one round of all contenders takes longer than long_round_seconds."""

    long_round_seconds: float = 30.0

    decode_tokens: int = 32
    """Tokens decoded in a round."""

    seed: int = 0
    """Of the random weights of a preset, and of the tokens."""

    def __post_init__(self) -> None:
        for kind, given, known in (
            ("task", self.tasks, TASKS),
            ("peer", self.peers, PEERS),
            ("engine", self.engines, tuple(ENGINES)),
            ("precision", (*self.train_precisions, *self.inference_precisions), PRECISIONS),
        ):
            for name in given:
                if name not in known:
                    raise UnknownNameError(kind, name, known)
        for name in ("threads", "rounds", "long_round_rounds", "decode_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.engines and ("fp32" not in self.inference_precisions or set(self.tasks) == {"train"}):
            raise ConfigError(
                "engines are measured in prefill and decode of fp32, and neither was chosen",
                hint="--tasks prefill,decode --precision fp32",
            )
        if not self.tasks or not self.lengths or min(self.lengths) < 2:
            raise ConfigError("a benchmark needs a task and lengths of at least 2 tokens")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One task at one length in one precision."""

    task: Task
    tokens: int
    precision: str

    def __str__(self) -> str:
        after = " after" if self.task == "decode" else ""
        return f"{self.task}{after} {self.tokens:,} tokens, {self.precision}"


def cells(settings: BenchSettings, config: ModelConfig) -> Iterator[Cell]:
    """Every cell, short ones first within a task.

    Raises:
        ConfigError: a length does not fit into the model's context.
    """
    for task in settings.tasks:
        new_tokens = settings.decode_tokens + 1 if task == "decode" else 0
        if max(settings.lengths) + new_tokens > config.max_context_tokens:
            raise ConfigError(
                f"{max(settings.lengths):,} tokens and {new_tokens} new ones do not fit into the model's context of "
                f"{config.max_context_tokens:,}",
                hint="choose shorter --lengths",
            )
        for precision in settings.train_precisions if task == "train" else settings.inference_precisions:
            for tokens in sorted(settings.lengths):
                yield Cell(task=cast(Task, task), tokens=tokens, precision=precision)


def engines_of(settings: BenchSettings, cell: Cell) -> tuple[str, ...]:
    """The engines that take part in a cell."""
    return settings.engines if cell.task != "train" and cell.precision == "fp32" else ()


def contenders_of(settings: BenchSettings, cell: Cell) -> tuple[str, ...]:
    """Who takes part in a cell, ours first."""
    plain = (PLAIN,) if settings.compiled and cell.task == "decode" else ()
    return (OURS, *plain, *settings.peers, *engines_of(settings, cell))


def llama_of_equal_size(config: ModelConfig) -> ModelConfig:
    """Attention in every layer, else the same, with a feed-forward so wide that the parameters agree to one percent.

    Of the widths that agree, the one that is a multiple of the largest power of two; layers are left out only where no
    width agrees.
    """
    from mamba_slm.model.count import count_parameters

    wanted = count_parameters(config).total
    for layers in range(config.num_layers, 0, -1):
        for step in WIDTH_STEPS:
            candidate = attention_only(config, layers, 1)
            per_width = 3 * config.hidden_size * layers
            width = step * max(1, round((wanted - count_parameters(candidate).total) / per_width / step))
            candidate = attention_only(config, layers, width)
            if abs(count_parameters(candidate).total / wanted - 1) <= EQUAL_SIZE_TOLERANCE:
                return candidate
    raise ConfigError(f"no Llama has {wanted:,} parameters with hidden_size {config.hidden_size}")


def attention_only(config: ModelConfig, layers: int, feed_forward_size: int) -> ModelConfig:
    """The layout of a Llama with the widths of `config`."""
    return ModelConfig(
        pattern=(ATTENTION + FEED_FORWARD) * layers,
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads,
        feed_forward_size=feed_forward_size,
        max_context_tokens=config.max_context_tokens,
        rope_theta=config.rope_theta,
        tie_embeddings=config.tie_embeddings,
        norm_eps=config.norm_eps,
    )


def work_per_token(config: ModelConfig, cell: Cell, *, decode_tokens: int) -> float:
    """What a token of the cell needs at least: FLOPs (train, prefill), or bytes to read (decode).

    Training is three forward passes; what an implementation recomputes does not count. Prefill needs the head for its
    last token only. Decode reads the weights (of an embedding beside the head one row, which is left out), the state
    and the keys and values before the token; what it writes does not count.
    """
    head = 2.0 * config.hidden_size * config.vocab_size
    if cell.task == "train":
        return train_flops_per_token(config, cell.tokens)
    if cell.task == "prefill":
        return forward_flops_per_token(config, cell.tokens) - head * (1 - 1 / cell.tokens)
    size = BYTES_PER_VALUE[cell.precision]
    return read_weight_bytes(config, cell.precision) + state_bytes(
        config, cell.tokens + decode_tokens // 2, cache_bytes=size
    )


def engine_work_per_token(
    config: ModelConfig, cell: Cell, engine: str, *, weight_bytes: int, decode_tokens: int
) -> float:
    """As `work_per_token`, of an engine whose weights have so many bytes."""
    if cell.task != "decode":
        return work_per_token(config, cell, decode_tokens=decode_tokens)
    cache_bytes = ENGINE_CACHE_BYTES[engine.partition("-")[0]]
    return weight_bytes + state_bytes(config, cell.tokens + decode_tokens // 2, cache_bytes=cache_bytes)


def read_weight_bytes(config: ModelConfig, precision: str) -> int:
    """Bytes of the weights that decoding a token reads."""
    size = BYTES_PER_VALUE[precision]
    unread = 0 if config.tie_embeddings else config.vocab_size * config.hidden_size
    return weight_bytes(config, bytes_per_parameter=size) - size * unread


def tokens_per_round(cell: Cell, *, decode_tokens: int) -> int:
    """Tokens that one round processes."""
    return decode_tokens if cell.task == "decode" else cell.tokens
