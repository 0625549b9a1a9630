"""Phrases that belong to classes, and how often a text has those of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mamba_slm.data.curation.phrases.definition import Phrase
from mamba_slm.data.curation.phrases.find import Words, arguments_of, find_phrases, native_library, words_in
from mamba_slm.data.curation.phrases.phrase_set import PhraseSet

NONE = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class Classified:
    """Phrases with the numbers of their classes."""

    classes_of: Mapping[Phrase, tuple[int, ...]]

    num_classes: int

    phrases: PhraseSet

    table: NDArray[np.int16]
    """[phrases most] the classes of each phrase of `phrases`, filled up with `NONE`."""

    @classmethod
    def of(cls, classes_of: Mapping[Phrase, tuple[int, ...]], num_classes: int) -> Classified:
        """Phrases, each with at least one class below `num_classes`."""
        phrases, in_order = PhraseSet.of(classes_of)
        table = np.full((len(in_order), max(map(len, classes_of.values()), default=1)), NONE, np.int16)
        for row, phrase in zip(table, in_order, strict=True):
            row[: len(classes_of[phrase])] = classes_of[phrase]
        return cls(classes_of=classes_of, num_classes=num_classes, phrases=phrases, table=table)

    def counts(self, texts: Sequence[str] | Words) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Phrases found, the longest from left to right, [texts classes], and words, [texts].

        Raises:
            OutOfMemoryError: as `words_in`.
        """
        words = texts if isinstance(texts, Words) else words_in(texts)
        count = self.count_portable if native_library() is None else self.count_native
        return count(words), np.diff(words.starts)

    def count_native(self, words: Words) -> NDArray[np.int64]:
        """[texts classes] in C++."""
        library = native_library()
        assert library is not None
        counts = np.zeros((len(words), self.num_classes), np.int64)
        library.phrases_count(
            *arguments_of(words, self.phrases),
            *(self.table.ctypes.data, self.table.shape[1], self.num_classes, counts.ctypes.data),
        )
        return counts

    def count_portable(self, words: Words) -> NDArray[np.int64]:
        """[texts classes] in numpy."""
        found = find_phrases(words, self.phrases)
        counts = np.zeros(len(words) * self.num_classes, np.int64)
        starts, phrases = found.texts * self.num_classes, found.phrases
        for column in self.table.T:  # most phrases have one class, so less is left each time
            classes = column[phrases]
            here = classes != NONE
            starts, phrases = starts[here], phrases[here]
            counts += np.bincount(starts + classes[here], minlength=len(counts))
        return counts.reshape(len(words), self.num_classes)
