"""Drop an exact share of all documents, the worst ones, without ever having their scores in one place.

Each task counts its documents in a histogram of 65,536 integers; histograms are added in any order. The bin in which
the share ends is found, and because its documents have equal scores, the next 16 bits of a hash of their ids are
counted for them in the same way, until the number of documents to drop is met: once for the scores, and up to four
times for the hashes, 512 KB per task and round. So the result is a function of the set of documents, whatever the tasks
were.

    cut = Cut.begin(share)
    while not cut.is_found:
        cut = cut.narrowed(sum(cut.histogram(steps, hashes) for each task))
    dropped = cut.is_below(steps, hashes)
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

import numpy as np

from mamba_slm.core.errors import ConfigError

BINS = 65_536
DIGIT_BITS = 16
HASH_DIGITS = 4


def document_hashes(ids: Sequence[str]) -> np.ndarray:
    """[n] uint64 by which equal scores are ordered: BLAKE2b of the ids, so that the order of names means nothing."""
    digests = (hashlib.blake2b(one.encode(errors="surrogatepass"), digest_size=8).digest() for one in ids)
    return np.frombuffer(b"".join(digests), "<u8")


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Where the dropped documents end in the order of (score, hash): known up to `digits` of 16 bits."""

    share: float
    """Share of all documents that is dropped, in [0, 1]."""

    digits: tuple[int, ...] = ()
    """The score, then the hash from its high end, of the first document that stays, as far as they are known."""

    left: int | None = None
    """How many documents that begin with `digits` are dropped; None before the first histogram."""

    is_found: bool = False
    """Whether everything is known: all documents before `digits` are dropped, and no others."""

    @classmethod
    def begin(cls, share: float) -> Cut:
        """Nothing is known yet.

        Raises:
            ConfigError: the share is outside [0, 1].
        """
        if not 0 <= share <= 1:
            raise ConfigError(f"the share to drop must lie in [0, 1], got {share}")
        return cls(share=share)

    def histogram(self, steps: np.ndarray, hashes: np.ndarray) -> np.ndarray:
        """[65536] int64: the documents that the next digit decides about, by that digit. Add those of all tasks.

        Args:
            steps: [n] scores in [0, 65535], from `score_steps`.
            hashes: [n] uint64, from `document_hashes`.
        """
        assert not self.is_found and len(steps) == len(hashes)
        undecided = np.ones(len(steps), bool)
        for place, digit in enumerate(self.digits):
            undecided &= digit_at(steps, hashes, place) == digit
        digits = digit_at(steps, hashes, len(self.digits))[undecided]
        return np.bincount(digits.astype(np.int64), minlength=BINS)

    def narrowed(self, histogram: np.ndarray) -> Cut:
        """What is known with the sum of all tasks' histograms.

        Of N documents floor(share * N) are dropped, the share taken as the decimal number that it prints as. Documents
        with the same score and the same 64-bit hash stay together, on the side where the first of them would stay.
        """
        total = int(histogram.sum())
        left = int(Fraction(Decimal(repr(self.share))) * total) if self.left is None else self.left
        cumulated = np.cumsum(histogram)
        digit = int(np.searchsorted(cumulated, left, side="right"))
        if digit == BINS:  # all are dropped
            return replace(self, digits=(*self.digits, BINS), left=0, is_found=True)
        left -= int(cumulated[digit] - histogram[digit])
        digits = (*self.digits, digit)
        return replace(self, digits=digits, left=left, is_found=left == 0 or len(digits) == 1 + HASH_DIGITS)

    def is_below(self, steps: np.ndarray, hashes: np.ndarray) -> np.ndarray:
        """[n] bool: which documents are dropped."""
        assert self.is_found
        below, equal = np.zeros(len(steps), bool), np.ones(len(steps), bool)
        for place, digit in enumerate(self.digits):
            own = digit_at(steps, hashes, place)
            below |= equal & (own < digit)
            equal &= own == digit
        return below


def digit_at(steps: np.ndarray, hashes: np.ndarray, place: int) -> np.ndarray:
    """The score, or 16 bits of the hash from its high end, as int64."""
    if place == 0:
        return steps.astype(np.int64)
    shift = np.uint64(64 - DIGIT_BITS * place)
    return (hashes >> shift & np.uint64(BINS - 1)).astype(np.int64)
