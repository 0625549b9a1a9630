"""Phrases of classes are counted the same, compiled or not, as the definition finds them."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from mamba_slm.data.curation.phrases.classified import Classified
from mamba_slm.data.curation.phrases.definition import find_longest, words_of
from mamba_slm.data.curation.phrases.find import native_library, words_in

WORDS = ("a", "b", "straße", "漢", "1")
phrases = st.lists(st.sampled_from(["a", "b", "strasse", "漢", "1"]), min_size=1, max_size=3).map(tuple)
classes = st.sets(st.integers(0, 4), min_size=1, max_size=3).map(lambda found: tuple(sorted(found)))
texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join), max_size=4)


@settings(max_examples=200, deadline=None)
@given(texts, st.dictionaries(phrases, classes, min_size=1, max_size=10))
def test_both_ways_count_what_the_definition_finds(texts, classes_of):
    assert native_library() is not None, "no compiler"
    classified = Classified.of(classes_of, 5)
    expected = []
    for text in texts:
        found = Counter(one for _, phrase in find_longest(words_of(text), classes_of) for one in classes_of[phrase])
        expected.append([found[number] for number in range(5)])
    counts, num_words = classified.counts(texts)
    assert counts.tolist() == expected
    assert num_words.tolist() == [len(words_of(text)) for text in texts]
    words = words_in(texts)
    assert classified.count_portable(words).tolist() == classified.count_native(words).tolist() == expected
