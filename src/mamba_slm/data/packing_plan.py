"""Which rows the documents of one source fill: best fit, boundaries kept, at most 1% left empty, any row at once.

A document of t tokens is t - 1 pairs of a token and the one after it, and a row has room for `context_tokens` pairs.

    longer documents     as many whole rows as they fill, and a remainder
    remainders, others   best fit: each goes whole into the fullest row that has room for it
    if more than 1% of all places stay empty, the emptiest rows are filled anew, end to end, and cut where a row ends

In epoch 0 a long document is cut from its start on. In every later epoch it is cut elsewhere: the rows go round it from
another token on, and its end and its start are two pieces of one row. The lengths stay the same, and so does the plan.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, replace

import numpy as np

from mamba_slm.core.errors import ConfigError
from mamba_slm.data.best_fit import Group, best_fit
from mamba_slm.data.permutation import hashed, mix, mix_array

PACKING_VERSION = 1
"""Rises when the same documents come into other rows: only with its own version does a run go on exactly."""

WASTE = 0.01
"""Share of the places that may stay empty before documents are cut to fill them."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A part of a document in a row."""

    document: int
    """Its number in the source."""

    start: int
    """The first token that is an input."""

    length: int
    """Inputs: tokens start … start + length - 1, each with the token after it as its target."""


class PackingPlan:
    """The rows of one source; a function of the arguments.

    Memory: some 10 bytes per document kept, 50 while it is made. Time: two sorts of all documents, 0.3 s per million.

    Args:
        document_tokens: [n] tokens of each document, begin and end tokens included, each at least 2.
        context_tokens: room in a row.
        seed, name: choose which documents of equal length share a row, and where later epochs cut.

    Raises:
        ConfigError: `context_tokens` is below 1.
    """

    def __init__(self, document_tokens: np.ndarray, *, context_tokens: int, seed: int = 0, name: str = ""):
        if context_tokens < 1:
            raise ConfigError(f"context_tokens must be at least 1, got {context_tokens}")
        longest = int(np.max(document_tokens))
        assert len(document_tokens) and np.min(document_tokens) >= 2, "every document has a begin and an end"
        small = np.min_scalar_type(max(longest, context_tokens))
        self.context_tokens = context_tokens
        self.key = hashed(seed, f"cuts of {name}")
        self.pairs = (np.asarray(document_tokens) - 1).astype(small)
        self.num_pairs = int(self.pairs.sum(dtype=np.int64))
        whole, remainders = np.divmod(self.pairs, small.type(context_tokens))
        self.long = np.flatnonzero(whole).astype(number_type(len(whole)))
        self.whole_ends = np.cumsum(whole[self.long], dtype=np.int64)
        self.num_whole = int(self.whole_ends[-1]) if len(self.long) else 0

        counts = np.bincount(remainders)
        order = shuffled_by_length(remainders, hashed(seed, f"rows of {name}"))
        self.by_length = order[int(counts[0]) :]
        counts[0] = 0
        self.first_by_length = np.cumsum(counts) - counts
        self.groups, emptiest = self.within_waste(best_fit(counts, context_tokens))
        self.group_ends = np.cumsum([group.rows for group in self.groups], dtype=np.int64).tolist()
        self.num_packed = self.num_whole + (self.group_ends[-1] if self.groups else 0)
        self.rest = np.concatenate([self.by_length[:0], *map(self.documents_of, emptiest)])
        self.rest_ends = np.cumsum(remainders[self.rest], dtype=np.int64)
        self.num_rows = self.num_packed + (-(-int(self.rest_ends[-1]) // context_tokens) if len(self.rest) else 0)

    @property
    def waste(self) -> float:
        """Share of all places that no pair fills: at most 1%, or less than one row."""
        return 1 - self.num_pairs / (self.num_rows * self.context_tokens)

    def within_waste(self, groups: list[Group]) -> tuple[list[Group], list[Group]]:
        """The fullest rows, as many as leave at most 1% of all places empty; and the others."""
        rows = self.num_whole + sum(group.rows for group in groups)
        fewest = -(-self.num_pairs // self.context_tokens)
        empty = rows * self.context_tokens - self.num_pairs
        if rows == fewest or empty <= WASTE * rows * self.context_tokens:
            return groups, []
        kept: list[Group] = []
        others: list[Group] = []
        allowed = max(
            0, int((WASTE * fewest - 1) * self.context_tokens)
        )  # the last row of the others may be empty, too
        for group in sorted(groups, key=lambda group: group.space):
            fitting = group.rows if group.space == 0 else min(group.rows, allowed // group.space)
            allowed -= fitting * group.space
            if fitting:
                kept.append(replace(group, rows=fitting))
            if fitting < group.rows:
                others.append(replace(group, first_row=group.first_row + fitting, rows=group.rows - fitting))
        return kept, others

    def documents_of(self, group: Group, rows: slice | None = None) -> np.ndarray:
        """The documents whose remainders are in the rows of a group, or in a slice of these rows, row by row."""
        first, last, _ = (slice(None) if rows is None else rows).indices(group.rows)
        count = last - first
        found = []
        for slot in group.slots:
            begin = int(self.first_by_length[slot.length]) + slot.first_piece
            begin += (group.first_row + first - slot.first_row) * slot.pieces
            found.append(self.by_length[begin : begin + count * slot.pieces].reshape(count, slot.pieces))
        return np.concatenate(found, axis=1).ravel()

    def pieces(self, row: int, *, epoch: int = 0) -> list[Piece]:
        """What a row holds in an epoch, 0 ≤ row < `num_rows`."""
        if not 0 <= row < self.num_rows:
            raise IndexError(f"row {row} of {self.num_rows}")
        if row < self.num_whole:
            number = int(np.searchsorted(self.whole_ends, row, side="right"))
            start = (row - (int(self.whole_ends[number - 1]) if number else 0)) * self.context_tokens
            return self.on_circle(int(self.long[number]), start, self.context_tokens, epoch)
        if row < self.num_packed:
            number = bisect.bisect_right(self.group_ends, row - self.num_whole)
            group = self.groups[number]
            place = row - self.num_whole - self.group_ends[number] + group.rows
            documents = self.documents_of(group, slice(place, place + 1)).tolist()
            parts = [(document, 0, None) for document in documents]
        else:
            parts = self.rest_parts((row - self.num_packed) * self.context_tokens)
        found = []
        for document, skipped, length in parts:
            whole, remainder = divmod(int(self.pairs[document]), self.context_tokens)
            start = whole * self.context_tokens + skipped
            found += self.on_circle(document, start, remainder if length is None else length, epoch)
        return found

    def rest_parts(self, first: int) -> list[tuple[int, int, int | None]]:
        """(document, pairs of its remainder passed over, pairs) in the row at `first` of the rows filled end to end."""
        parts: list[tuple[int, int, int | None]] = []
        number = int(np.searchsorted(self.rest_ends, first, side="right"))
        begin, last = first, first + self.context_tokens
        while begin < last and number < len(self.rest):
            document, end = int(self.rest[number]), int(self.rest_ends[number])
            remainder = int(self.pairs[document]) % self.context_tokens
            parts.append((document, begin - (end - remainder), min(end, last) - begin))
            begin, number = end, number + 1
        return parts

    def on_circle(self, document: int, start: int, length: int, epoch: int) -> list[Piece]:
        """The pieces of a document from a place on, which goes round the document with the epoch."""
        pairs = int(self.pairs[document])
        if epoch and pairs > self.context_tokens:
            start = (start + mix(mix(self.key ^ epoch) ^ document)) % pairs
        ahead = min(length, pairs - start)
        pieces = [Piece(document=document, start=start, length=ahead)]
        if ahead < length:
            pieces.append(Piece(document=document, start=0, length=length - ahead))
        return pieces


def shuffled_by_length(lengths: np.ndarray, key: int) -> np.ndarray:
    """Indices that sort by length, those of equal length shuffled: [n]."""
    hashes = mix_array(np.arange(len(lengths), dtype=np.uint64) ^ np.uint64(key))
    order = np.argsort(hashes, kind="stable").astype(number_type(len(lengths)))
    del hashes  # 8 bytes per document
    shortest = lengths.astype(np.min_scalar_type(int(lengths.max())))  # sorted by radix up to 16 bits
    return order[np.argsort(shortest[order], kind="stable")]


def number_type(count: int) -> type[np.unsignedinteger]:
    """For numbers below `count`, in few bytes."""
    return np.uint32 if count <= 1 << 32 else np.uint64
