"""How fast a model answers here: reading a prompt and writing tokens, with the spread of the times.

Letters: b rows, t tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import quantiles
from typing import Any

import torch

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.runtime import Runtime
from mamba_slm.training.memory import peak_memory_bytes

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True, kw_only=True)
class SpeedSettings:
    """What is timed."""

    prompt_tokens: tuple[int, ...] = (128, 512)
    """Lengths of the prompts, one after the other."""
    batches: tuple[int, ...] = (1, 8)
    """Rows that are read and written at once."""
    new_tokens: int = 32
    """Tokens written after each prompt."""
    num_runs: int = 20
    """Times that each is done, after one that does not count."""

    def __post_init__(self) -> None:
        for name in ("prompt_tokens", "batches"):
            if not getattr(self, name) or min(getattr(self, name)) < 1:
                raise ConfigError(f"{name} must be numbers from 1 on, got {getattr(self, name)}")
        if self.num_runs < 2 or self.new_tokens < 2:
            raise ConfigError("percentiles need at least 2 runs and 2 new tokens")


@dataclass(frozen=True, kw_only=True)
class Speed:
    """One length of prompts in one batch."""

    batch: int
    prompt_tokens: int
    prefill_seconds: dict[str, float]
    """Of a whole batch of prompts to their first logits: p50, p90, p99."""
    step_seconds: dict[str, float]
    """Between two tokens of a row."""
    state_bytes: int | None
    """Of all rows after the last token; None where the runtime does not tell."""
    peak_memory_bytes: int
    """Most memory of this process up to here."""

    @property
    def prefill_tokens_per_second(self) -> float:
        """Of all rows, by the median."""
        return self.batch * self.prompt_tokens / self.prefill_seconds["p50"]

    @property
    def decode_tokens_per_second(self) -> float:
        """Of all rows, by the median."""
        return self.batch / self.step_seconds["p50"]

    def to_dict(self) -> dict[str, Any]:
        """Fields and rates."""
        return {
            **asdict(self),
            "prefill_tokens_per_second": self.prefill_tokens_per_second,
            "decode_tokens_per_second": self.decode_tokens_per_second,
        }


def measure_speed(
    runtime: Runtime[Any], settings: SpeedSettings, *, say: Callable[[str], None] = lambda line: None
) -> Iterator[Speed]:
    """Time every length in every batch with random tokens, greedy; gives each as it is known.

    Raises:
        ConfigError: prompt and new tokens do not fit into the model's context.
    """
    longest = max(settings.prompt_tokens) + settings.new_tokens
    if longest > runtime.config.max_context_tokens:
        raise ConfigError(
            f"prompts of {max(settings.prompt_tokens)} and {settings.new_tokens} new tokens do not fit into the "
            f"model's context of {runtime.config.max_context_tokens}",
            hint="give shorter --lengths",
        )
    for batch in settings.batches:
        for length in settings.prompt_tokens:
            say(f"{settings.num_runs} runs of {batch} × {length} tokens")
            yield measured(runtime, batch, length, settings)


def measured(runtime: Runtime[Any], batch: int, length: int, settings: SpeedSettings) -> Speed:
    """One length in one batch."""
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(runtime.config.vocab_size, (batch, length), generator=generator).to(runtime.device)
    reading: list[float] = []
    writing: list[float] = []
    state: Any = None
    for number in range(settings.num_runs + 1):
        state, start = runtime.new_state(batch), now(runtime)
        logits = runtime.next_logits(prompts, None, state)
        read = now(runtime)
        steps = []
        for _ in range(settings.new_tokens):
            begun = now(runtime)
            logits = runtime.next_logits(logits.argmax(dim=-1)[:, None], None, state)
            steps.append(now(runtime) - begun)
        if number:  # the first one allocates, compiles and fills caches
            reading.append(read - start)
            writing += steps
    return Speed(
        batch=batch,
        prompt_tokens=length,
        prefill_seconds=percentiles(reading),
        step_seconds=percentiles(writing),
        state_bytes=getattr(state, "num_bytes", None),
        peak_memory_bytes=peak_memory_bytes(str(runtime.device)),
    )


def now(runtime: Runtime[Any]) -> float:
    """The time when the device has done what it was given."""
    if runtime.device.type == "cuda":
        torch.cuda.synchronize(runtime.device)
    return time.perf_counter()


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """By name, interpolated within the values seen.

    >>> percentiles([1.0, 2.0, 3.0])["p50"]
    2.0
    """
    cuts = quantiles(values, n=100, method="inclusive")
    return {f"p{percent}": cuts[percent - 1] for percent in PERCENTILES}
