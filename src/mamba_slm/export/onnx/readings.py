"""The ways in which a graph may be read: whole, in pieces, token by token, in padded batches. All give the same values.

Letters: b rows, t tokens of a piece.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mamba_slm.export.onnx.caller import GraphCaller
from mamba_slm.model.config import ModelConfig

Piece = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Tokens [b t] and their mask [b t]."""
Outputs = list[NDArray[np.float32]]
"""Of one sequence: the logits [t v], and further outputs [t …]."""

CUTS = (1, 3, 62, 64, 65, 129)
"""Around the edges of a chunk of the portable form, and of the convolution."""
SINGLE_TOKENS = 24
"""Read one at a time from the first on."""
DECODED_TOKENS = 5
"""Read one at a time behind a padded prompt."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Sequences that are read together, piece by piece."""

    sequences: tuple[int, ...]
    """Numbers of the sequences that the rows read, each from its first token on."""
    pieces: tuple[Piece, ...]


def whole(sequences: Sequence[Sequence[int]]) -> Iterator[Batch]:
    """Each sequence alone, in one call."""
    for number, tokens in enumerate(sequences):
        yield Batch(sequences=(number,), pieces=(rows_of([tokens], "right"),))


def in_pieces(sequences: Sequence[Sequence[int]]) -> Iterator[Batch]:
    """Each sequence alone, cut at `CUTS`."""
    for number, tokens in enumerate(sequences):
        edges = [0, *(cut for cut in CUTS if cut < len(tokens)), len(tokens)]
        pieces = tuple(rows_of([tokens[start:end]], "right") for start, end in pairwise(edges))
        yield Batch(sequences=(number,), pieces=pieces)


def one_by_one(sequences: Sequence[Sequence[int]]) -> Iterator[Batch]:
    """The beginning of the longest sequence alone, one token at a time."""
    number = max(range(len(sequences)), key=lambda index: len(sequences[index]))
    pieces = tuple(rows_of([[token]], "right") for token in sequences[number][:SINGLE_TOKENS])
    yield Batch(sequences=(number,), pieces=pieces)


def padded_left(sequences: Sequence[Sequence[int]]) -> Iterator[Batch]:
    """All sequences in one batch, padded on the left, then some tokens one at a time."""
    yield padded(sequences, "left")


def padded_right(sequences: Sequence[Sequence[int]]) -> Iterator[Batch]:
    """All sequences in one batch, padded on the right, then some tokens one at a time."""
    yield padded(sequences, "right")


def padded(sequences: Sequence[Sequence[int]], side: str) -> Batch:
    """Prompts as rows, then `DECODED_TOKENS` steps; a row that has run out waits as padding."""
    prompts = [tokens[: max(1, len(tokens) - DECODED_TOKENS)] for tokens in sequences]
    pieces = [rows_of(prompts, side)]
    for step in range(DECODED_TOKENS):
        pieces.append(
            rows_of(
                [s[len(p) + step : len(p) + step + 1] for s, p in zip(sequences, prompts, strict=True)],
                "right",
                width=1,
            )
        )
    return Batch(sequences=tuple(range(len(sequences))), pieces=tuple(pieces))


READINGS = {
    "read whole": whole,
    "read in pieces": in_pieces,
    "read one token at a time": one_by_one,
    "read as a batch padded on the left": padded_left,
    "read as a batch padded on the right": padded_right,
}
"""What a check tries, by the words that describe it."""


def rows_of(sequences: Sequence[Sequence[int]], side: str, *, width: int | None = None) -> Piece:
    """Sequences as the rows of a batch, with zeros where they are shorter, and the mask."""
    width = max(map(len, sequences)) if width is None else width
    tokens, mask = np.zeros((2, len(sequences), width), dtype=np.int64)
    for row, sequence in enumerate(sequences):
        at = slice(width - len(sequence), width) if side == "left" else slice(0, len(sequence))
        tokens[row, at], mask[row, at] = sequence, 1
    return tokens, mask


def read_batch(session: Any, config: ModelConfig, batch: Batch, also: tuple[str, ...] = ()) -> list[Outputs]:
    """Read the pieces of a batch; for each row the logits of its tokens, and `also`.

    Logits stand where their tokens stand; inside the graph the tokens of a row come first (see `lowering`).
    """
    caller = GraphCaller(session, config, rows=len(batch.sequences))
    found: list[list[Outputs]] = [[] for _ in batch.sequences]
    for tokens, mask in batch.pieces:
        logits, *others = caller.read(tokens, mask, also=also)
        for row, parts in enumerate(found):
            count = int(mask[row].sum())
            parts.append([logits[row][mask[row] == 1], *(other[row][:count] for other in others)])
    return [[np.concatenate(pieces) for pieces in zip(*parts, strict=True)] for parts in found]
