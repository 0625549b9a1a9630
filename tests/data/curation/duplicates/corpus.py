"""A corpus with known duplicates of every kind, and the truth about it by comparing all pairs that share anything."""

from __future__ import annotations

import random
from collections import defaultdict
from fractions import Fraction
from pathlib import Path

import numpy as np

from mamba_slm.data.curation.duplicates.batches import Texts
from mamba_slm.data.curation.duplicates.definition import shingles_of
from mamba_slm.data.curation.duplicates.find import find_duplicates
from mamba_slm.data.curation.duplicates.kernels import ShingleSets, kernels
from mamba_slm.data.curation.duplicates.parts import MemoryPart
from mamba_slm.data.document import Document

THRESHOLD = Fraction(4, 5)
SYLLABLES = ["ka", "lo", "mi", "ne", "su", "ta", "ri", "vo", "de", "pa", "zu", "é", "ñi", "шо", "漢"]


def make_corpus(originals: int, *, seed: int = 1, least_words: int = 4, most_words: int = 250) -> list[Document]:
    """Texts of invented words, about half as many changed copies again, and pages of three templates."""
    source = random.Random(seed)
    vocabulary = ["".join(source.choices(SYLLABLES, k=source.randint(1, 4))) for _ in range(3000)]

    def sentence(words: int) -> str:
        return " ".join(source.choice(vocabulary) for _ in range(words)).capitalize() + ". "

    def text(words: int) -> str:
        return "".join(sentence(source.randint(4, 20)) for _ in range(max(1, words // 12)))

    boilerplate = [text(source.randint(20, 60)) for _ in range(5)]
    texts = []
    for _ in range(originals):
        texts.append(text(source.randint(least_words, most_words)))
        while source.random() < 0.33:  # copies of copies make chains
            texts.append(changed(source.choice(texts[-3:]), boilerplate, vocabulary, source))
    for template in (text(80), text(150), text(40)):
        texts += [template + sentence(source.randint(1, 60)) for _ in range(originals // 12)]
    texts += ["", "   ", "?!", "...", "...", "word", "Word!", "two words", "x" * 5000, "漢 字"]
    source.shuffle(texts)
    return [
        Document(id=f"{seed}-{number}", text=text, metadata={"quality": source.choice([0.0, 0.5, 0.75])})
        for number, text in enumerate(texts)
    ]


def changed(text: str, boilerplate: list[str], vocabulary: list[str], source: random.Random) -> str:
    """A copy as the web makes them."""
    kind = source.randrange(8)
    words = text.split(" ")
    if kind == 0:
        return text
    if kind == 1:
        return text.replace(" ", source.choice(["  ", "\n", "\t", "\u00a0", " - "]))
    if kind == 2:
        return text.upper()
    if kind == 3:
        return source.choice(boilerplate) + text
    if kind == 4:
        share = source.choice([0.001, 0.005, 0.01])
        return "".join(source.choice("aeiou") if source.random() < share else letter for letter in text)
    if kind == 5:
        share = source.choice([0.005, 0.01, 0.02, 0.04])
        return " ".join(source.choice(vocabulary) if source.random() < share else word for word in words)
    if kind == 6:
        return ". ".join(each for each in text.split(". ") if source.random() > 0.1)
    cut = source.randrange(1 + len(words) // 4)
    return " ".join(words[cut:])


def true_pairs(documents: list[Document]) -> dict[tuple[int, int], Fraction]:
    """Every pair of documents with words and a similarity of at least 0.8, exactly."""
    sets = [shingles_of(document.text) for document in documents]
    holders = defaultdict(list)
    for number, shingles in enumerate(sets):
        for shingle in shingles:
            holders[shingle].append(number)
    shared: dict[tuple[int, int], int] = defaultdict(int)
    for numbers in holders.values():
        for i, a in enumerate(numbers):
            for b in numbers[i + 1 :]:
                shared[a, b] += 1
    found = {}
    for (a, b), both in shared.items():
        similarity = Fraction(both, len(sets[a]) + len(sets[b]) - both)
        if similarity >= THRESHOLD:
            found[a, b] = similarity
    return found


def found_in(documents: list[Document], folder: Path, *, parts: int = 1, **settings):
    """`find_duplicates` in documents dealt out to parts."""
    dealt = [MemoryPart(name=f"part {i}", documents=documents[i::parts]) for i in range(parts)]
    return find_duplicates(dealt, folder, **settings)


def sets_of(values: list[list[int]]) -> ShingleSets:
    """Shingle sets from lists of numbers."""
    sizes = np.array([len(each) for each in values], np.int64)
    flat = [number for each in values for number in sorted(each)]
    return ShingleSets(values=np.array(flat, np.uint64), offsets=np.concatenate([[0], np.cumsum(sizes)]))


def texts_of(texts: list[str]) -> Texts:
    """Texts for a kernel."""
    return Texts.of([text.encode() for text in texts])


def native_or_none():
    """The compiled kernels, or None where they cannot be."""
    found = kernels()
    return found if type(found).__name__ == "NativeKernels" else None
