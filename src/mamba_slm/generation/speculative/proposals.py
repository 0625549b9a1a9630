"""Who guesses the next tokens: an earlier place in the text, or a smaller model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from mamba_slm.core.errors import ConfigError, MambaSlmError
from mamba_slm.generation.prefill import prefill
from mamba_slm.generation.runtime import Runtime
from mamba_slm.generation.speculative.marks import Mark, mark, rewind

Choose = Callable[[Tensor], int]
"""Logits [1 v] to the token that the sampler would take there; to be called for one place after the other."""

FEW_TOKENS = 3
"""So many are read one by one, which a compiled step does faster than several at once."""


class Proposer(Protocol):
    """Guesses for one row, whose text only grows."""

    def propose(self, text: Sequence[int], most: int, choose: Choose) -> list[int]:
        """Up to `most` tokens that may follow; none where there is no guess.

        Args:
            text: prompt and new tokens so far.
            choose: draws as the model's own sampler will.
        """
        ...


class Source(Protocol):
    """Makes a proposer for every row."""

    @property
    def most(self) -> int:
        """Guesses per reading."""
        ...

    def start(self, target: Runtime[Any]) -> Proposer:
        """A proposer for a new row that `target` will read.

        Raises:
            ConfigError: its guesses would make no sense to `target`.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class PromptLookup:
    """What followed the last time that the text ended like this. Costs nothing, and helps where text repeats itself:
    code, summaries, questions about a document."""

    most: int = 8
    """Guesses per reading."""

    longest: int = 4
    """Most tokens that an earlier place must share with the end of the text; more shared ones are preferred."""

    shortest: int = 2
    """Fewest tokens that it must share."""

    def __post_init__(self) -> None:
        if self.most < 1 or not 1 <= self.shortest <= self.longest:
            raise ConfigError(
                f"prompt lookup needs at least 1 guess and 1 <= shortest <= longest, got {self.most} guesses, "
                f"{self.shortest} and {self.longest}"
            )

    def start(self, target: Runtime[Any]) -> LookupProposer:
        return LookupProposer(self)


class LookupProposer:
    """See `PromptLookup`. Every n-gram is entered once, so a guess costs as much as the text has grown."""

    def __init__(self, settings: PromptLookup):
        self._settings = settings
        self._ends: dict[tuple[int, ...], int] = {}  # of each n-gram: where its last occurrence but the final one ends
        self._entered = 0

    def propose(self, text: Sequence[int], most: int, choose: Choose) -> list[int]:
        sizes = range(self._settings.longest, self._settings.shortest - 1, -1)
        for end in range(self._entered + 1, len(text)):
            for size in sizes:
                if size <= end:
                    self._ends[tuple(text[end - size : end])] = end
        self._entered = max(self._entered, len(text) - 1)
        for size in sizes:
            end = self._ends.get(tuple(text[-size:])) if size <= len(text) else None
            if end is not None:
                return continued(text, end, most)
        return []


def continued(text: Sequence[int], start: int, count: int) -> list[int]:
    """`count` tokens from `start`, going on with the guesses themselves where the text ends.

    >>> continued([1, 2, 3, 1, 2], 2, 5)
    [3, 1, 2, 3, 1]
    """
    period = len(text) - start
    return [text[start + place % period] for place in range(count)]


@dataclass(frozen=True, kw_only=True)
class DraftModel:
    """A smaller model with the same tokenizer, which is asked for one token after the other."""

    runtime: Runtime[Any]
    """Runs the smaller model."""

    most: int = 4
    """Guesses per reading."""

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ConfigError(f"a draft model needs at least 1 guess per reading, got {self.most}")

    def start(self, target: Runtime[Any]) -> DraftProposer:
        ours, theirs = self.runtime.config.vocab_size, target.config.vocab_size
        if ours != theirs:
            raise ConfigError(
                f"the draft model has a vocabulary of {ours} tokens, the model one of {theirs}",
                hint="a draft model must have been trained with the model's tokenizer",
            )
        return DraftProposer(self.runtime)


class DraftProposer:
    """See `DraftModel`. The draft model reads its own guesses, and goes back to where they were wrong."""

    def __init__(self, runtime: Runtime[Any]):
        self._runtime = runtime
        self._state = runtime.new_state(1)
        self._read: list[int] = []
        self._marks: dict[int, Mark] = {0: mark(self._state)}

    def propose(self, text: Sequence[int], most: int, choose: Choose) -> list[int]:
        room = self._runtime.config.max_context_tokens - len(text)  # all guesses but the last are read
        most = min(most, room)
        if most < 1:
            return []
        self._go_back(min(common_length(self._read, text), len(text) - 1))
        logits = self._next(text[len(self._read) :])
        self._marks = {}
        guesses: list[int] = []
        while len(guesses) < most:
            if guesses:
                self._marks[len(self._read)] = mark(self._state)
                logits = self._next(guesses[-1:])
            try:
                guesses.append(choose(logits))
            except MambaSlmError:  # nothing may follow, as behind the end of constrained text; no guess is no harm
                break
        self._marks.setdefault(len(self._read), mark(self._state))
        return guesses

    def _go_back(self, count: int) -> None:
        """To the last place that may be returned to among the first `count` tokens."""
        if count < len(self._read):
            place = max(each for each in self._marks if each <= count)
            rewind(self._state, self._marks[place])
            del self._read[place:]

    def _next(self, tokens: Sequence[int]) -> Tensor:
        """Read tokens; the logits [1 v] after them."""
        self._read += tokens
        if len(tokens) > FEW_TOKENS:
            return prefill(self._runtime, [tokens], self._state)
        logits = torch.empty(0)
        for token in tokens:
            piece = torch.tensor([[token]], device=self._runtime.device)
            logits = self._runtime.next_logits(piece, None, self._state)
        return logits


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the longest common beginning."""
    pairs = zip(first, second, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
