"""Phrases as sorted hashes with a filter before them: what the kernels look up."""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mamba_slm.data.curation.duplicates.definition import word_hash
from mamba_slm.data.curation.phrases.definition import MAX_PHRASE_WORDS, Phrase, anchor_hash, phrase_hash

FILTER_BITS_PER_ANCHOR = 16
"""Two of them are set: about 1 word in 60 that begins no phrase is looked up in vain."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PhraseSet:
    """Phrases, each known by the place of its hash in `hashes`."""

    hashes: NDArray[np.uint64]
    """[phrases] `phrase_hash`, ascending, none twice."""

    anchors: NDArray[np.uint64]
    """[anchors] `anchor_hash` of the first `anchor_words` of the phrases, ascending, none twice."""

    anchor_lengths: NDArray[np.uint32]
    """[anchors] how long the phrases are that begin so: bit n for n words."""

    anchor_words: int
    """No phrase is shorter."""

    lengths: tuple[int, ...]
    """How many words phrases have, longest first."""

    def __post_init__(self) -> None:
        assert (self.hashes[1:] > self.hashes[:-1]).all() and (self.anchors[1:] > self.anchors[:-1]).all()
        assert list(self.lengths) == sorted(set(self.lengths), reverse=True)
        assert not self.lengths or 1 <= self.anchor_words <= self.lengths[-1] <= self.lengths[0] <= MAX_PHRASE_WORDS

    @classmethod
    def of(cls, phrases: Collection[Phrase], *, anchor_words: int = 1) -> tuple[PhraseSet, list[Phrase]]:
        """The set, and its phrases in the order of their hashes."""
        hash_of = functools.cache(word_hash)
        hashed = sorted((phrase_hash([hash_of(word) for word in phrase]), phrase) for phrase in set(phrases))
        anchors: dict[int, int] = {}
        for _, phrase in hashed:
            anchor = anchor_hash([hash_of(word) for word in phrase[:anchor_words]])
            anchors[anchor] = anchors.get(anchor, 0) | 1 << len(phrase)
        lengths = tuple(sorted({len(phrase) for _, phrase in hashed}, reverse=True))
        made = cls(
            hashes=np.array([number for number, _ in hashed], np.uint64),
            anchors=np.array(sorted(anchors), np.uint64),
            anchor_lengths=np.array([anchors[anchor] for anchor in sorted(anchors)], np.uint32),
            anchor_words=anchor_words,
            lengths=lengths,
        )
        return made, [phrase for _, phrase in hashed]

    @functools.cached_property
    def filter_bits(self) -> int:
        """log2 of the number of 64-bit words of `filter`."""
        return max(1, (len(self.anchors) * FILTER_BITS_PER_ANCHOR // 64).bit_length())

    @functools.cached_property
    def filter(self) -> NDArray[np.uint64]:
        """A Bloom filter of the anchors: the first bits of a hash choose a word, the last twelve two bits in it."""
        found = np.zeros(1 << self.filter_bits, np.uint64)
        one, low = np.uint64(1), np.uint64(63)
        bits = one << (self.anchors & low) | one << (self.anchors >> np.uint64(6) & low)
        np.bitwise_or.at(found, self.anchors >> np.uint64(64 - self.filter_bits), bits)
        return found

    @functools.cached_property
    def hash_buckets(self) -> Buckets:
        """Of `hashes`."""
        return Buckets.of(self.hashes)

    @functools.cached_property
    def anchor_buckets(self) -> Buckets:
        """Of `anchors`."""
        return Buckets.of(self.anchors)


@dataclass(frozen=True, kw_only=True, eq=False)
class Buckets:
    """Where in a sorted array the numbers begin that have the same first bits."""

    bits: int
    """So many that a bucket holds about one."""

    starts: NDArray[np.uint32]
    """[2^bits + 1] the start of each bucket, and the end of the last one."""

    @classmethod
    def of(cls, numbers: NDArray[np.uint64]) -> Buckets:
        """Of numbers in ascending order."""
        bits = max(1, len(numbers).bit_length())
        counts = np.bincount((numbers >> np.uint64(64 - bits)).astype(np.int64), minlength=1 << bits)
        return cls(bits=bits, starts=np.concatenate([np.zeros(1, np.uint32), np.cumsum(counts, dtype=np.uint32)]))
