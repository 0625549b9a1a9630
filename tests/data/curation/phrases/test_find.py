"""Phrases are found where the definition finds them, compiled or not, in hostile and in real text."""

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import SetupError
from mamba_slm.data.curation.duplicates import definition as of_duplicates
from mamba_slm.data.curation.duplicates.batches import Texts
from mamba_slm.data.curation.duplicates.portable import word_hashes
from mamba_slm.data.curation.phrases import find
from mamba_slm.data.curation.phrases.definition import find_all, find_longest, phrase_hash, words_of
from mamba_slm.data.curation.phrases.find import (
    Words,
    find_native,
    find_phrases,
    find_portable,
    native_library,
    words_in,
)
from mamba_slm.data.curation.phrases.phrase_set import PhraseSet

SHARED = Path(__file__).parents[4].parent / "shared" / "data"

WORDS = ("a", "b", "Straße", "Élan", "漢", "字", "เ", "x" * 70, "e\u0301", "\u200b", "\u00ad", "1", "🙂", "\0")
GAPS = (" ", "\n", ", ", "", "-", "\u3000", "\u2028", "_")
texts_strategy = st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(GAPS)), max_size=40).map(
    lambda pieces: "".join(map("".join, pieces))
)
any_text = st.one_of(texts_strategy, st.text(st.characters(exclude_categories=("Cs",)), max_size=60))
letters = st.sampled_from(["a", "b", "strasse", "elan", "漢", "字", "1"])
phrases_strategy = st.sets(st.lists(letters, min_size=1, max_size=4).map(tuple), max_size=12)


def found_by_definition(texts, phrases, overlapping):
    search = find_all if overlapping else find_longest
    return [(i, place, phrase) for i, text in enumerate(texts) for place, phrase in search(words_of(text), phrases)]


def as_list(found, in_order):
    return [
        (int(text), int(place), in_order[phrase])
        for text, place, phrase in zip(found.texts, found.places, found.phrases, strict=True)
    ]


@settings(max_examples=200, deadline=None)
@given(st.lists(any_text, max_size=5), phrases_strategy, st.booleans())
def test_both_kernels_find_what_the_definition_finds(texts, phrases, overlapping):
    assert native_library() is not None, "no compiler"
    looked_for, in_order = PhraseSet.of(phrases)
    expected = found_by_definition(texts, phrases, overlapping)
    assert as_list(find_phrases(texts, looked_for, overlapping=overlapping), in_order) == expected
    for kernel in (find_native, find_portable) if phrases else ():
        found = kernel(words_in(texts), looked_for, overlapping)
        assert as_list(found, in_order) == expected
        assert found.num_words.tolist() == [len(words_of(text)) for text in texts]


@settings(max_examples=100, deadline=None)
@given(st.lists(any_text, max_size=5))
def test_words_are_the_same_without_a_compiler_and_can_be_joined_again(texts):
    compiled = words_in(texts)
    assert compiled.hashes.tolist() == [of_duplicates.word_hash(word) for text in texts for word in words_of(text)]
    hashes, counts = word_hashes(Texts.of([text.encode() for text in texts]))
    assert hashes.tolist() == compiled.hashes.tolist() and counts.tolist() == np.diff(compiled.starts).tolist()
    chosen = range(0, len(texts), 2)
    joined = Words.joined([compiled.of_text(number) for number in chosen])
    expected = words_in([texts[number] for number in chosen])
    assert joined.hashes.tolist() == expected.hashes.tolist() and joined.starts.tolist() == expected.starts.tolist()


@settings(max_examples=200, deadline=None)
@given(any_text)
def test_words_are_those_of_duplicates(text):
    assert words_of(text) == of_duplicates.words_of(text)


@pytest.mark.parametrize("anchor_words", [1, 3, 8])
def test_phrases_may_be_anchored_by_several_words(anchor_words):
    phrases = {tuple(f"w{i}" for i in range(start, start + 8 + start % 6)) for start in range(0, 60, 3)}
    looked_for, in_order = PhraseSet.of(phrases, anchor_words=anchor_words)
    texts = [" ".join(f"W{i}" for i in range(70)), "w0 w1 w2 w3 w4 w5 w6", "", "w69 " * 300]
    for kernel in (find_native, find_portable):
        found = kernel(words_in(texts), looked_for, True)
        assert as_list(found, in_order) == found_by_definition(texts, phrases, True)


def test_a_hash_of_a_phrase_is_that_of_its_words_and_their_number():
    looked_for, in_order = PhraseSet.of({("a",), ("a", "b"), ("b",)})
    for number, phrase in zip(looked_for.hashes.tolist(), in_order, strict=True):
        assert number == phrase_hash([of_duplicates.word_hash(word) for word in phrase])


def test_many_phrases_are_told_apart():
    phrases = {(f"word{i}", f"word{i + 1}") for i in range(0, 40_000, 2)}
    looked_for, _ = PhraseSet.of(phrases)
    text = " ".join(f"word{i}" for i in range(40_001))
    for kernel in (find_native, find_portable):
        found = kernel(words_in([text]), looked_for, True)
        assert found.places.tolist() == list(range(0, 40_000, 2))
        assert sorted(found.phrases.tolist()) == list(range(20_000))


def test_nothing_is_found_where_nothing_is_looked_for():
    looked_for, _ = PhraseSet.of(set())
    found = find_phrases(["some words", ""], looked_for)
    assert not len(found.texts) and found.num_words.tolist() == [2, 0]
    assert not len(find_phrases([], looked_for).num_words)


def test_without_a_compiler_numpy_finds_the_same_and_says_so(monkeypatch, caplog):
    def no_compiler(source):
        raise SetupError("no native kernels: there is no g++")

    looked_for, _ = PhraseSet.of({("the", "cat"), ("cat",)})
    texts = ["The cat. Cat!", "", "cattle"]
    expected = find_phrases(texts, looked_for)
    native_library.cache_clear()
    monkeypatch.setattr(find, "load_library", no_compiler)
    try:
        with caplog.at_level(logging.WARNING):
            found = find_phrases(texts, looked_for)
            find_phrases(texts, looked_for)
        assert all(np.array_equal(getattr(found, name), getattr(expected, name)) for name in vars(expected))
        assert [record.getMessage() for record in caplog.records] == [
            "phrases=numpy (no native kernels: there is no g++); compiled ones are 20 times faster"
        ]
    finally:
        native_library.cache_clear()


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data, which is not here")
def test_real_text_in_many_scripts_gives_the_same():
    texts = [path.read_text(encoding="utf-8")[:3000] for path in sorted((SHARED / "curation" / "langid").glob("*.txt"))]
    phrases = {tuple(words[i : i + 2]) for words in map(words_of, texts) for i in range(0, len(words) - 1, 7)}
    looked_for, in_order = PhraseSet.of(phrases)
    assert as_list(find_phrases(texts, looked_for), in_order) == found_by_definition(texts, phrases, False)
