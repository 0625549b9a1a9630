"""What a benchmark measures: one cell per task, precision, length and batch, each with its contenders. No torch.

A cell is one line of work for every contender, for example "decode after 2,048 tokens in fp32".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.evaluation.bench.names import ATTENTION, ENGINES, OURS, PEERS, PLAIN, PRECISIONS, TASKS, VARIANTS
from mamba_slm.model.config import ModelConfig

Task = Literal["train", "prefill", "decode"]


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """What to measure."""

    tasks: tuple[str, ...] = TASKS
    """train, prefill, decode."""

    lengths: tuple[int, ...] = (512, 1024, 2048, 4096)
    """Tokens of the sequence: trained on, prefilled, or read before the first decoded one."""

    train_lengths: tuple[int, ...] = ()
    """Of the training step, where they are others; none: `lengths`."""

    batches: tuple[int, ...] = (1,)
    """Sequences decoded at once; the other tasks have one."""

    peers: tuple[str, ...] = PEERS
    """granite: transformers' GraniteMoeHybrid with the same weights; llama: its Llama of equal parameters; attention:
    ours with attention in every layer and equal parameters."""

    variants: tuple[str, ...] = ()
    """Names in `VARIANTS`."""

    engines: tuple[str, ...] = ()
    """Names in `ENGINES`."""

    compiled: bool = False
    """Whether ours decodes with a compiled step."""

    plain: bool = False
    """Whether ours stands beside it without one, as `plain`; one sequence only."""

    train_precisions: tuple[str, ...] = ("bf16",)
    """Autocast for the training step; its weights are float32 in any case."""

    inference_precisions: tuple[str, ...] = PRECISIONS
    """Dtype of the weights for prefill and decode."""

    threads: int = 1
    """CPU threads of every contender."""

    rounds: int = 5
    """How often each contender is timed; they take turns."""

    long_seconds: float = 12.0
    """A contender whose first, uncounted round takes longer is timed at most `long_rounds` times."""

    long_rounds: int = 3

    very_long_seconds: float = 45.0
    """A contender whose first, uncounted round takes longer is timed once."""

    decode_tokens: int = 32
    """Tokens decoded in a round."""

    budget_seconds: float | None = None
    """Cells that would take longer than is left of this are left out; None: nothing is."""

    by_length: bool = False
    """Every task at one length before the next length; else every length of a task."""

    seed: int = 0
    """Of the random weights of a preset, and of the tokens."""

    def __post_init__(self) -> None:
        for kind, given, known in (
            ("task", self.tasks, TASKS),
            ("peer", self.peers, (*PEERS, ATTENTION)),
            ("variant", self.variants, tuple(VARIANTS)),
            ("engine", self.engines, tuple(ENGINES)),
            ("precision", (*self.train_precisions, *self.inference_precisions), PRECISIONS),
        ):
            for name in given:
                if name not in known:
                    raise UnknownNameError(kind, name, known)
        for name in ("threads", "rounds", "long_rounds", "decode_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if (self.engines or self.variants) and (
            "fp32" not in self.inference_precisions or set(self.tasks) == {"train"}
        ):
            raise ConfigError(
                "engines are measured in prefill and decode of fp32, and neither was chosen",
                hint="--tasks prefill,decode --precision fp32",
            )
        if not self.tasks or not self.lengths or min((*self.lengths, *self.train_lengths)) < 2:
            raise ConfigError("a benchmark needs a task and lengths of at least 2 tokens")
        if not self.batches or min(self.batches) < 1:
            raise ConfigError("a benchmark needs batches of at least 1 sequence")

    def lengths_of(self, task: str) -> tuple[int, ...]:
        """The lengths at which a task is measured."""
        return self.train_lengths or self.lengths if task == "train" else self.lengths

    def rounds_of(self, first_seconds: float) -> int:
        """How often a contender is timed whose uncounted round took so long.

        >>> settings = BenchSettings()
        >>> [settings.rounds_of(seconds) for seconds in (1.0, 20.0, 60.0)]
        [5, 3, 1]
        """
        if first_seconds > self.very_long_seconds:
            return 1
        return min(self.rounds, self.long_rounds) if first_seconds > self.long_seconds else self.rounds


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One task at one length in one precision."""

    task: Task
    tokens: int
    precision: str
    batch: int = 1

    def __str__(self) -> str:
        after = " after" if self.task == "decode" else ""
        rows = f" of {self.batch} sequences" if self.batch > 1 else ""
        return f"{self.task}{rows}{after} {self.tokens:,} tokens, {self.precision}"


def cells(settings: BenchSettings, config: ModelConfig) -> Iterator[Cell]:
    """Every cell, short ones first within a task, or all tasks of a length together with `by_length`.

    Raises:
        ConfigError: a length does not fit into the model's context.
    """
    if (needed := context_needed(settings)) > config.max_context_tokens:
        raise ConfigError(
            f"{needed:,} tokens, new ones included, do not fit into the model's context of "
            f"{config.max_context_tokens:,}",
            hint="choose shorter --lengths",
        )
    made = [
        Cell(task=cast(Task, task), tokens=tokens, precision=precision, batch=batch)
        for task in settings.tasks
        for precision in (settings.train_precisions if task == "train" else settings.inference_precisions)
        for tokens in sorted(settings.lengths_of(task))
        for batch in (sorted(settings.batches) if task == "decode" else (1,))
    ]
    yield from sorted(made, key=lambda cell: cell.tokens) if settings.by_length else made


def context_needed(settings: BenchSettings) -> int:
    """The shortest context in which everything can be measured; prefill chooses one token, too."""
    new_tokens = {"train": 0, "prefill": 1, "decode": settings.decode_tokens + 1}
    return max(max(settings.lengths_of(task)) + new_tokens[task] for task in settings.tasks)


def variants_of(settings: BenchSettings, cell: Cell) -> tuple[str, ...]:
    """Ours with other weights, as far as they take part in a cell."""
    return settings.variants if cell.task != "train" and cell.precision == "fp32" else ()


def engines_of(settings: BenchSettings, cell: Cell) -> tuple[str, ...]:
    """The engines that take part in a cell; llama.cpp's batches would need more than its simple interface."""
    if cell.task == "train" or cell.precision != "fp32":
        return ()
    return tuple(name for name in settings.engines if cell.batch == 1 or not name.startswith("llama.cpp"))


def contenders_of(settings: BenchSettings, cell: Cell) -> tuple[str, ...]:
    """Who takes part in a cell, ours first."""
    plain = (PLAIN,) if settings.plain and cell.task == "decode" and cell.batch == 1 else ()
    return (OURS, *plain, *variants_of(settings, cell), *settings.peers, *engines_of(settings, cell))
