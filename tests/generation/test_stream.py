"""Promises of streaming text: no half characters, no torn stop strings, the same text whatever the borders."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.stream import StopStrings, TextStream, TokenDecoder

quick = settings(max_examples=200, deadline=None)
texts = st.text(alphabet=st.sampled_from("ab ñ€😀語\n\u0301"), max_size=20)


class Pieces:
    """A byte-level vocabulary made of given pieces; token 0 is special."""

    special_ids = frozenset({0})

    def __init__(self, pieces):
        self._pieces = [b"<|endoftext|>", *pieces]

    def token_bytes(self, token):
        return self._pieces[token]

    @property
    def tokens(self):
        return list(range(1, len(self._pieces)))


def cut(data, places):
    borders = sorted({min(place, len(data)) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(borders)]


@quick
@given(texts, st.lists(st.integers(0, 80)))
def test_text_cut_anywhere_between_bytes_arrives_whole_and_without_half_characters(text, places):
    vocabulary = Pieces(cut(text.encode(), places))
    decoder = TokenDecoder(vocabulary)
    parts = [decoder.push(token) for token in vocabulary.tokens]
    assert "".join(parts) == text
    assert decoder.finish() == ""
    assert "\ufffd" not in "".join(parts)


@quick
@given(texts, st.integers(0, 80))
def test_a_character_is_shown_with_the_token_that_completes_it(text, place):
    first, rest = text.encode()[:place], text.encode()[place:]
    vocabulary = Pieces([first, rest])
    complete = first.decode(errors="ignore")
    assert TokenDecoder(vocabulary).push(1) == complete


@quick
@given(st.binary(max_size=30), st.lists(st.integers(0, 30)))
def test_bytes_that_are_no_text_become_replacement_characters_as_if_decoded_at_once(data, places):
    vocabulary = Pieces(cut(data, places))
    decoder = TokenDecoder(vocabulary)
    assert "".join(decoder.push(t) for t in vocabulary.tokens) + decoder.finish() == data.decode(errors="replace")


def test_special_tokens_have_no_text():
    vocabulary = Pieces([b"a", b"b"])
    decoder = TokenDecoder(vocabulary)
    assert [decoder.push(token) for token in (1, 0, 2)] == ["a", "", "b"]


def first_stop(text, stops):
    """The definition: read character by character until some stop string is complete."""
    for end in range(len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            stop = max(found, key=len)
            return text[: end - len(stop)], stop
    return text, None


@quick
@given(texts, st.lists(texts.filter(bool), max_size=3), st.lists(st.integers(0, 80)))
def test_stop_strings_are_found_across_borders_and_never_shown(text, stops, places):
    stream = StopStrings(stops)
    parts = [stream.push(piece) for piece in cut(text, places)] + [stream.finish()]
    assert ("".join(parts), stream.matched) == first_stop(text, stops)


@quick
@given(texts, st.lists(texts.filter(bool), min_size=1, max_size=3), st.lists(st.integers(0, 80)))
def test_only_a_possible_beginning_of_a_stop_string_is_held_back(text, stops, places):
    stream = StopStrings(stops)
    seen = shown = ""
    for piece in cut(text, places):
        seen += piece
        shown += stream.push(piece)
        if stream.matched is not None:
            return
        held = seen[len(shown) :]
        assert held == "" or any(stop.startswith(held) and stop != held for stop in stops)


@quick
@given(texts, st.lists(texts.filter(bool), max_size=2), st.lists(st.integers(0, 80)))
def test_bytes_to_stopped_text_is_independent_of_token_borders(text, stops, places):
    vocabulary = Pieces(cut(text.encode(), places))
    stream = TextStream.create(vocabulary, stops)
    shown = "".join(stream.push(token) for token in vocabulary.tokens) + stream.finish()
    assert shown == first_stop(text, stops)[0]
    assert stream.stopped == (first_stop(text, stops)[1] is not None)


def test_an_empty_stop_string_is_refused():
    with pytest.raises(ConfigError, match="empty"):
        StopStrings(["x", ""])
