"""What load is put on a server. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mamba_slm.core.errors import ConfigError

Arrivals = Literal["poisson", "fixed"]
Endpoint = Literal["completions", "chat"]


@dataclass(frozen=True, kw_only=True)
class LoadSettings:
    """Of all levels of one run."""

    concurrency: tuple[int, ...] = (1, 4, 16, 64)
    """Requests that are under way at any time: one that ends makes place for the next. One level each."""
    rates: tuple[float, ...] = ()
    """Requests that arrive in a second, however many are under way. One level each, behind those above."""
    arrivals: Arrivals = "poisson"
    """Whether requests of a rate arrive at random, as those of people, or one after the other at equal distances."""
    requests: int | None = None
    """In a level; None: four times the concurrency, at least 16; of a rate 32."""
    warmup: int | None = None
    """Requests before each level that are not counted; None: as many as are under way, at most 16; of a rate 4."""
    endpoint: Endpoint = "completions"
    """Texts to continue, or messages to answer."""
    prompt_tokens: tuple[int, int] = (128, 128)
    """Least and most tokens of a synthetic prompt; a request draws its own length."""
    output_tokens: tuple[int, int] = (64, 64)
    """Least and most tokens that a request asks for."""
    may_end: bool = False
    """Whether the end token ends an answer; else `ignore_eos` is sent, which OpenAI's own servers do not know."""
    shared_share: float = 0.0
    """Share of a synthetic prompt, from its beginning, that is the same in every request of the run."""
    vocab_size: int | None = None
    """Prompts are token ids below this; None: words, whose tokens are counted with the first answer."""
    dataset: Path | None = None
    """JSON lines with `prompt` or `messages`, instead of synthetic prompts."""
    timeout_seconds: float = 600.0
    """A request that takes longer has failed."""
    seed: int = 0
    """Of prompts, lengths and arrivals."""

    def __post_init__(self) -> None:
        if not self.concurrency and not self.rates:
            raise ConfigError("no load: neither a concurrency nor a rate", hint="--concurrency 1,4,16 or --rate 2,4")
        if any(count < 1 for count in self.concurrency):
            raise ConfigError(f"a concurrency is at least 1, got {self.concurrency}")
        if any(not 0 < rate < 1e6 for rate in self.rates):
            raise ConfigError(f"a rate is more than 0 requests per second, got {self.rates}")
        if self.requests is not None and self.requests < 1:
            raise ConfigError(f"a level has at least one request, got {self.requests}")
        if self.warmup is not None and self.warmup < 0:
            raise ConfigError(f"warmup counts requests, got {self.warmup}")
        for name in ("prompt_tokens", "output_tokens"):
            least, most = getattr(self, name)
            if not 1 <= least <= most:
                raise ConfigError(f"{name} is a count, or a range of counts from 1 on, got {least}-{most}")
        if not 0 <= self.shared_share <= 1:
            raise ConfigError(f"shared_share is a share from 0 to 1, got {self.shared_share}")
        if self.vocab_size is not None and self.vocab_size < 2:
            raise ConfigError(f"vocab_size is at least 2, got {self.vocab_size}")
        if self.vocab_size is not None and self.endpoint == "chat":
            raise ConfigError("a chat takes texts, no token ids", hint="leave out --vocab-size, or --endpoint chat")
        if self.timeout_seconds <= 0:
            raise ConfigError(f"timeout_seconds is more than 0, got {self.timeout_seconds}")

    @property
    def levels(self) -> tuple[Level, ...]:
        """In their order."""
        closed = [Level(concurrency=count, rate=None) for count in self.concurrency]
        return (*closed, *(Level(concurrency=None, rate=rate) for rate in self.rates))

    def requests_of(self, level: Level) -> int:
        """How many are counted."""
        return self.requests or (32 if level.concurrency is None else max(16, 4 * level.concurrency))

    def warmup_of(self, level: Level) -> int:
        """How many come before them."""
        if self.warmup is not None:
            return self.warmup
        return 4 if level.concurrency is None else min(level.concurrency, 16)


@dataclass(frozen=True, kw_only=True)
class Level:
    """So much load: one of the two is given."""

    concurrency: int | None
    rate: float | None

    def in_words(self, arrivals: Arrivals) -> str:
        """For a table.

        >>> Level(concurrency=16, rate=None).in_words("poisson"), Level(concurrency=None, rate=2.5).in_words("fixed")
        ('16 at once', '2.5/s fixed')
        """
        return f"{self.rate:g}/s {arrivals}" if self.rate is not None else f"{self.concurrency} at once"
