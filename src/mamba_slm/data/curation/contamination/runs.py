"""The runs of words that give questions away: the definition, on words, and the same for many questions as hashes."""

from __future__ import annotations

import functools
import math
from array import array
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from mamba_slm.data.curation.contamination.config import ContaminationConfig
from mamba_slm.data.curation.duplicates.definition import GOLDEN, MASK, word_hash
from mamba_slm.data.curation.duplicates.portable import mixed
from mamba_slm.data.curation.phrases.definition import Phrase, words_of
from mamba_slm.data.curation.phrases.find import sums_at

BLOCK_RUNS = 1 << 17


def pieces_of(texts: Sequence[str], config: ContaminationConfig) -> list[list[str]]:
    """What of a question is looked for, as words: each text that is long enough; else the question with each answer.

    >>> pieces_of(["Who wrote Emma?", "Jane Austen did it in eighteen fifteen", "Nobody"], ContaminationConfig())
    [['who', 'wrote', 'emma', 'jane', 'austen', 'did', 'it', 'in', 'eighteen', 'fifteen']]
    """
    split = [words_of(text) for text in texts]
    long_enough = [words for words in split if len(words) >= config.min_words]
    if long_enough or not split:
        return long_enough
    joined = [split[0] + words for words in split[1:]]
    return [words for words in joined if len(words) >= config.min_words]


def is_telling(word: str) -> bool:
    """Whether a word says something: no number, and no single letter of a script with words."""
    return not word.isdecimal() and (len(word) > 1 or not word.isascii())


def runs_of(words: Sequence[str], config: ContaminationConfig) -> set[Phrase]:
    """The runs of one piece: every `ngram_words` in a row, or all words if there are fewer.

    >>> runs_of("a man is sitting on a roof and then".split(), ContaminationConfig())
    {('a', 'man', 'is', 'sitting', 'on', 'a', 'roof', 'and', 'then')}
    """
    length = min(len(words), config.ngram_words)
    least = math.ceil(config.min_distinct_share * length)
    runs = {tuple(words[start : start + length]) for start in range(len(words) - length + 1)}
    return {run for run in runs if len({word for word in run if is_telling(word)}) >= least}


class RunCollector:
    """The runs of many questions as hashes, with the number of their question."""

    def __init__(self, config: ContaminationConfig):
        self.config = config
        self.hash_of = functools.cache(word_hash)
        self.telling_hash_of = functools.cache(lambda word: word_hash(word) if is_telling(word) else 0)
        self.words, self.telling = array("Q"), array("Q")
        self.lengths, self.owners = array("q"), array("q")

    def add(self, question: int, pieces: Iterable[Sequence[str]]) -> None:
        """The pieces of a question."""
        for words in pieces:
            self.words.extend(map(self.hash_of, words))
            self.telling.extend(map(self.telling_hash_of, words))
            self.lengths.append(len(words))
            self.owners.append(question)

    def runs(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
        """Hash, anchor, number of words and question of every run that `runs_of` gives; equal ones may come again."""
        words, telling = (np.array(each, np.uint64) for each in (self.words, self.telling))
        lengths, owners = np.array(self.lengths, np.int64), np.array(self.owners, np.int64)
        starts = np.cumsum(lengths) - lengths
        most, least = self.config.ngram_words, self.config.min_words
        found = []
        for length in range(least, most + 1):
            here = lengths >= most if length == most else lengths == length
            windows = np.where(here, lengths - length + 1, 0)
            places = (
                np.repeat(starts, windows) + np.arange(windows.sum()) - np.repeat(np.cumsum(windows) - windows, windows)
            )
            owner = np.repeat(owners, windows)
            for block in range(0, len(places), BLOCK_RUNS):
                some = places[block : block + BLOCK_RUNS]
                told = np.sort(telling[some[:, None] + np.arange(length)], axis=1)
                differ = (told[:, :1] != 0).sum(axis=1) + (told[:, 1:] != told[:, :-1]).sum(axis=1)
                wanted = differ >= math.ceil(self.config.min_distinct_share * length)
                some = some[wanted]
                hashes = mixed(sums_at(words, some, length) + np.uint64(length * GOLDEN & MASK))
                anchors = mixed(sums_at(words, some, least))
                found.append((hashes, anchors, np.full(len(some), length), owner[block : block + BLOCK_RUNS][wanted]))
        if not found:
            return np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64)
        hashes, anchors, counts, owner = (np.concatenate(part) for part in zip(*found, strict=True))
        return hashes, anchors, counts, owner
