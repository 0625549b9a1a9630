"""What the model makes of texts beside the requests: embeddings, and how likely the tokens of a prompt are.

Texts are read in pieces of bounded size, each between two steps of the engine and by its thread: running requests wait
for one piece at most before their next token, and memory is used by one at a time.

Letters: b rows, t time, d hidden size, v vocabulary.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.runtime import TorchRuntime
from mamba_slm.model.stack import LanguageModel
from mamba_slm.serving.engine.choosing import with_logprobs
from mamba_slm.serving.engine.request import Logprob
from mamba_slm.serving.engine.thread import Engine

Pooling = Literal["mean", "last"]
MOST_ROWS = 16
"""Texts that are read together."""


@dataclass(frozen=True)
class ReadToken:
    """A token of a prompt."""

    token: int
    logprob: Logprob | None
    """Under all tokens before; None for the first."""
    top: tuple[Logprob, ...] = ()
    """The likeliest tokens at its place."""


class Reader:
    """Reads texts with a model that an engine is running."""

    def __init__(self, model: LanguageModel, *, piece_tokens: int = 512):
        """
        Args:
            piece_tokens: read between two steps; more reads faster and holds up requests longer.
        """
        self._model, self._piece_tokens = model, piece_tokens
        self._alone = asyncio.Lock()
        """Held by who has a state: states of many texts are large, and requests come in any number."""
        self.hidden_size: int = model.config.hidden_size

    async def embeddings(self, engine: Engine, texts: Sequence[Sequence[int]], *, pooling: Pooling) -> Tensor:
        """Hidden states after the final norm, of all tokens on average or of the last: [texts d] of unit length.

        Args:
            texts: token ids, at least one each.

        Raises:
            ConfigError: a text is empty, longer than the model's context, or has a token that the model lacks.
        """
        for number, text in enumerate(texts):
            self._check(text, f"input {number + 1}")
        pooled = torch.zeros(len(texts), self.hidden_size)
        for batch in batches([len(text) for text in texts]):
            rows = [texts[number] for number in batch]
            async with self._alone:
                async for start, hidden in self._read(engine, rows):
                    for number, row, states in zip(batch, rows, hidden, strict=True):
                        count = min(len(row) - start, hidden.shape[1])
                        if pooling == "mean" and count > 0:
                            pooled[number] += states[:count].sum(dim=0) / len(row)
                        elif 0 < len(row) - start <= hidden.shape[1]:
                            pooled[number] = states[count - 1]
        return torch.nn.functional.normalize(pooled, dim=-1)

    async def likelihoods(self, engine: Engine, tokens: Sequence[int], *, top: int) -> list[ReadToken]:
        """How likely each token of a prompt was, and the `top` likeliest ones at its place.

        Raises:
            ConfigError: as in `embeddings`.
        """
        self._check(tokens, "the prompt")
        read = [ReadToken(tokens[0], None)]
        async with self._alone:
            async for start, hidden in self._read(engine, [tokens]):
                following = tokens[start + 1 : start + 1 + hidden.shape[1]]
                for place in range(0, len(following), 64):  # logits of many places are large
                    some = following[place : place + 64]
                    logits = await engine.between_steps(partial(self._logits, hidden[0, place : place + len(some)]))
                    for token, of_token in zip(some, logits, strict=True):
                        choice = with_logprobs(token, of_token, top)
                        read.append(ReadToken(token, choice.logprob, choice.top))
        return read

    async def _read(self, engine: Engine, rows: Sequence[Sequence[int]]) -> AsyncIterator[tuple[int, Tensor]]:
        """Pieces of rows from their beginning: where one begins, and its hidden states [b t d], float32 on the CPU."""
        state, longest = self._model.new_state(len(rows)), max(map(len, rows))
        size = max(1, self._piece_tokens // len(rows))
        device = self._model.embedding.weight.device
        for start in range(0, longest, size):
            width = min(size, longest - start)
            tokens = torch.zeros(len(rows), width, dtype=torch.int64)
            mask = torch.zeros(len(rows), width, dtype=torch.bool)
            for number, row in enumerate(rows):
                piece = torch.tensor(row[start : start + width], dtype=torch.int64)
                tokens[number, : len(piece)], mask[number, : len(piece)] = piece, True
            given = (tokens.to(device), None if bool(mask.all()) else mask.to(device))

            def read(tokens: Tensor = given[0], mask: Tensor | None = given[1]) -> Tensor:
                with torch.no_grad():
                    return self._model.hidden_states(tokens, padding_mask=mask, state=state).cpu()

            yield start, await engine.between_steps(read)

    @torch.no_grad()
    def _logits(self, hidden: Tensor) -> Tensor:
        """[t d] to [t v] on the CPU."""
        return self._model.logits(hidden.to(self._model.embedding.weight.device)).cpu()

    def _check(self, tokens: Sequence[int], what: str) -> None:
        config = self._model.config
        if not tokens:
            raise ConfigError(f"{what} has no tokens")
        if len(tokens) > config.max_context_tokens:
            raise ConfigError(
                f"{what} has {len(tokens)} tokens, more than the model's context of {config.max_context_tokens}",
                hint="cut it into shorter texts",
            )
        largest = max(tokens)
        if largest >= config.vocab_size:
            raise ConfigError(f"{what} has token {largest}, and the model's vocabulary has {config.vocab_size}")


def batches(lengths: Sequence[int]) -> list[list[int]]:
    """Numbers of texts that are read together: of similar lengths, so that little is padding.

    >>> batches([3, 100, 4, 90, 5])
    [[1, 3], [4, 2, 0]]
    """
    made: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        if made and len(made[-1]) < MOST_ROWS and 2 * lengths[number] >= lengths[made[-1][0]]:
            made[-1].append(number)
        else:
            made.append([number])
    return made


def reader_of(runtime: object) -> Reader | None:
    """Of a runtime that shows hidden states; None: it does not."""
    return Reader(runtime.model) if isinstance(runtime, TorchRuntime) else None
