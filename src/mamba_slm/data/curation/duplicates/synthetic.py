"""A corpus of any size with known duplicates, made while it is read: for tests and measurements at scale.

Document n is an original, an exact copy or a changed copy of an earlier original, all decided by a hash of n. So any
part can be made alone, and what the right answer is can be computed without comparing anything.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mamba_slm.data.curation.duplicates.batches import DocumentBatch, Texts
from mamba_slm.data.curation.duplicates.config import SHINGLE_WORDS
from mamba_slm.data.curation.duplicates.portable import mixed, position_in_run, starts_of

WORD_BYTES = 8
VOCABULARY = 1 << 18
U = np.uint64


@dataclass(frozen=True, kw_only=True)
class SyntheticPart:
    """Documents number `first` to `first + count - 1`."""

    first: int
    count: int
    copies: float = 0.2
    """Share of the documents that are copies; every eighth of them is exact."""

    changes: float = 0.03
    """Up to this share of a changed copy's words are others."""

    least_words: int = 40
    most_words: int = 120

    @property
    def name(self) -> str:
        """The numbers."""
        return f"synthetic {self.first}+{self.count}"

    def batches(self, batch_bytes: int) -> Iterator[DocumentBatch]:
        """As `Part.batches`."""
        step = max(1, batch_bytes // (WORD_BYTES * (self.least_words + self.most_words) // 2))
        for start in range(self.first, self.first + self.count, step):
            numbers = np.arange(start, min(start + step, self.first + self.count))
            words, _, counts = self.words(numbers)
            ids = Texts.of([b"%d" % number for number in numbers.tolist()])
            yield DocumentBatch(
                texts=Texts(data=vocabulary()[words].reshape(-1), offsets=starts_of(counts) * WORD_BYTES),
                ids=ids,
                qualities=np.zeros(len(numbers), np.float32),
            )

    def originals(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which earlier document each one copies, or itself."""
        is_copy = share(numbers, 1) < self.copies
        earlier = (share(numbers, 2) * numbers).astype(np.int64)
        earlier = np.where(share(earlier, 1) < self.copies, numbers, earlier)  # never a copy of a copy
        return np.where(is_copy, earlier, numbers)

    def words(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
        """The words of documents, which of them the copy has changed, and how many each document has."""
        originals = self.originals(numbers)
        counts = self.least_words + (share(originals, 3) * (self.most_words - self.least_words + 1)).astype(np.int64)
        place = position_in_run(counts).astype(U)
        rate = np.where((originals == numbers) | (share(numbers, 4) < 0.125), 0, share(numbers, 5) * self.changes)
        own = mixed(np.repeat(mixed(numbers.astype(U) ^ U(6 << 40)), counts) + place)
        changed = (own >> U(40)).astype(np.float64) / (1 << 24) < np.repeat(rate, counts)
        base = mixed(np.repeat(mixed(originals.astype(U) ^ U(7 << 40)), counts) + place)
        words = (np.where(changed, mixed(own), base) % U(VOCABULARY)).astype(np.int64)
        return words, changed, counts

    def similarities(self, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        """The Jaccard similarity of each document with what it copies, as no shingle is there twice by chance."""
        _, changed, counts = self.words(numbers)
        before = np.concatenate([[0], np.cumsum(changed)])
        windows = counts - SHINGLE_WORDS + 1
        first = np.repeat(starts_of(counts)[:-1], windows) + position_in_run(windows)
        same = before[first + SHINGLE_WORDS] == before[first]
        shared = np.add.reduceat(same.astype(np.int64), starts_of(windows)[:-1])
        return shared / (2 * windows - shared)


def share(numbers: NDArray[np.int64], purpose: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each document."""
    return (mixed(numbers.astype(U) ^ U(purpose << 48)) >> U(11)).astype(np.float64) / (1 << 53)


@functools.cache
def vocabulary() -> NDArray[np.uint8]:
    """[words, 8] seven letters and a space."""
    letters = mixed(np.arange(VOCABULARY * WORD_BYTES, dtype=U)).reshape(VOCABULARY, WORD_BYTES) % U(26) + U(97)
    letters[:, -1] = ord(" ")
    return letters.astype(np.uint8)


def synthetic_parts(documents: int, per_part: int, **settings: float) -> list[SyntheticPart]:
    """A corpus in parts."""
    return [
        SyntheticPart(first=first, count=min(per_part, documents - first), **settings)  # pyright: ignore[reportArgumentType]
        for first in range(0, documents, per_part)
    ]
