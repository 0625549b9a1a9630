"""Processors: logits [b v] to logits [b v], knowing what each row has read and made.

Letters: `b` rows, `v` vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.strategies.history import History


class Processor(Protocol):
    """Anything with `process(logits [b v], history) -> logits [b v]`; a pure function of both."""

    def process(self, logits: Tensor, history: History) -> Tensor: ...


@dataclass(frozen=True)
class RepetitionPenalty:
    """Make tokens that were seen less likely: positive logits are divided by `penalty`, negative ones multiplied.

    Source: Keskar et al., "CTRL", arXiv:1909.05858, with the sign rule of transformers.
    """

    penalty: float

    def __post_init__(self):
        if not (self.penalty > 0 and math.isfinite(self.penalty)):
            raise ConfigError(f"repetition_penalty must be above 0, got {self.penalty}", hint="1 changes nothing")

    def apply(self, logits: Tensor, seen: Tensor) -> Tensor:
        """`seen` [b v] bool: True where the token occurs in the prompt or in what was generated."""
        return torch.where(seen, torch.where(logits > 0, logits / self.penalty, logits * self.penalty), logits)

    def process(self, logits: Tensor, history: History) -> Tensor:
        return self.apply(logits, history.seen)


@dataclass(frozen=True)
class FrequencyPenalty:
    """Subtract `penalty` from a token's logit for each time that the row has made it; the prompt does not count.

    Source: the frequency_penalty of OpenAI's API; vLLM counts the same way.
    """

    penalty: float

    def __post_init__(self):
        if not math.isfinite(self.penalty):
            raise ConfigError(f"frequency_penalty must be finite, got {self.penalty}", hint="0 changes nothing")

    def apply(self, logits: Tensor, counts: Tensor) -> Tensor:
        """`counts` [b v] float32: how often the row has made each token."""
        return logits - self.penalty * counts

    def process(self, logits: Tensor, history: History) -> Tensor:
        return self.apply(logits, history.counts)


@dataclass(frozen=True)
class PresencePenalty:
    """Subtract `penalty` once from the logit of every token that the row has made; the prompt does not count.

    Source: the presence_penalty of OpenAI's API.
    """

    penalty: float

    def __post_init__(self):
        if not math.isfinite(self.penalty):
            raise ConfigError(f"presence_penalty must be finite, got {self.penalty}", hint="0 changes nothing")

    def apply(self, logits: Tensor, counts: Tensor) -> Tensor:
        """`counts` [b v] float32: how often the row has made each token."""
        return logits - self.penalty * (counts > 0)

    def process(self, logits: Tensor, history: History) -> Tensor:
        return self.apply(logits, history.counts)


@dataclass(frozen=True)
class NoRepeatNgram:
    """Forbid a token that would complete an n-gram of `size` tokens which the prompt or the row's text already holds.

    A row in which every token would be forbidden is left as it is.
    """

    size: int

    def __post_init__(self):
        if self.size < 1:
            raise ConfigError(
                f"no_repeat_ngram_size must be at least 1, got {self.size}", hint="leave it out to allow repetition"
            )

    def process(self, logits: Tensor, history: History) -> Tensor:
        logits = logits.clone()
        for row in range(history.num_rows):
            banned = completions_of_ngrams(history.tokens(row), self.size)
            if 0 < len(banned) < logits.shape[-1]:
                logits[row, torch.tensor(sorted(banned), device=logits.device)] = -math.inf
        return logits


def completions_of_ngrams(tokens: Sequence[int], size: int) -> set[int]:
    """The tokens that would repeat an n-gram of `size` tokens if they came next.

    >>> sorted(completions_of_ngrams([5, 6, 7, 5, 6], 3))
    [7]
    """
    if size == 1:
        return set(tokens)
    end = tuple(tokens[len(tokens) - size + 1 :])
    if len(end) < size - 1:
        return set()
    return {
        tokens[start + size - 1]
        for start in range(len(tokens) - size + 1)
        if tokens[start] == end[0] and tuple(tokens[start : start + size - 1]) == end
    }


@dataclass(frozen=True)
class LogitBias:
    """Add a number to the logits of some tokens; -inf forbids them."""

    biases: tuple[tuple[int, float], ...]
    """(token, what is added to its logit)."""

    def __post_init__(self):
        for token, bias in self.biases:
            if token < 0 or math.isnan(bias) or bias == math.inf:
                raise ConfigError(
                    f"a logit bias of {bias} for token {token} means nothing",
                    hint="tokens count from 0; a bias is a finite number, or -inf to forbid the token",
                )

    def process(self, logits: Tensor, history: History) -> Tensor:
        """
        Raises:
            ConfigError: a token outside the vocabulary.
        """
        tokens = [token for token, _ in self.biases]
        if tokens and max(tokens) >= logits.shape[-1]:
            raise ConfigError(
                f"a logit bias names token {max(tokens)}, but the model's vocabulary has {logits.shape[-1]} tokens"
            )
        added = logits.new_tensor([bias for _, bias in self.biases])
        logits = logits.clone()
        logits[:, torch.tensor(tokens, dtype=torch.int64, device=logits.device)] += added
        return logits
