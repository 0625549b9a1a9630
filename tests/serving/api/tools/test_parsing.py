"""Calls in answers: found wherever the pieces of the text end, and nothing that is no call is lost."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.serving.api.tools.form import BARE, TAGGED
from mamba_slm.serving.api.tools.parsing import Called, CallParser, Said

CALL = TAGGED.call("weather", '{"city": "Os\\"lo } </tool_call"}')


def parsed(pieces, form=TAGGED, **settings):
    """The text, and the calls as [name, arguments]."""
    parser = CallParser(form, **settings)
    parts = [part for piece in pieces for part in parser.push(piece)] + parser.finish()
    text, calls = "", []
    for part in parts:
        if isinstance(part, Said):
            text += part.text
        elif isinstance(part, Called):
            assert part.index == len(calls)
            calls.append([part.name, ""])
        else:
            calls[part.index][1] += part.text
    assert parser.num_calls == len(calls)
    return text, calls


def cut(text, places):
    borders = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(borders)]


@pytest.mark.parametrize("form", [TAGGED, BARE])
@pytest.mark.parametrize("name", [r"a\x", r"\u12", r"\ud800"])
def test_a_name_that_json_or_utf8_cannot_say_is_no_call_and_no_failure(form, name):
    for inside in (f'{{"name": "{name}", "{form.key}": {{"a": 1}}}}', f'{{"{form.key}": {{}}, "name": "{name}"}}'):
        text = f"{form.before}{inside}{form.after}"
        assert parsed([text], form) == parsed(list(text), form) == (text, [])
        text.encode()


def test_arguments_that_utf8_cannot_say_are_text():
    text = f'{TAGGED.before}{{"arguments": {{"a": "\\ud800"}}, "name": "f"}}{TAGGED.after}'
    assert parsed([text]) == (text, [])


CUTS = st.lists(st.integers(0, 10_000), max_size=12)


@given(CUTS)
def test_calls_and_the_text_before_are_found_wherever_the_text_is_cut(places):
    text = f"I look.\n\n{CALL}\n{TAGGED.call('now', '{}')}\n"
    assert parsed(cut(text, places)) == ("I look.", [["weather", '{"city": "Os\\"lo } </tool_call"}'], ["now", "{}"]])


@given(st.text('<tol_cal>/{}":, \nnamerguets1'), CUTS)
def test_what_is_no_call_is_text_to_the_last_character(text, places):
    said, calls = parsed(cut(text, places))
    if not calls:
        assert said == text


@pytest.mark.parametrize(
    "text", ["a <tool_call> b", "<tool_call>x</tool_call> y", "a \n <tool_call>[1]</tool_call>", "a<tool_cal"]
)
def test_a_broken_call_is_shown_as_it_stands(text):
    assert parsed(text) == (text, [])


def test_arguments_may_come_first_be_called_parameters_or_be_text():
    for inside in (
        '{"arguments": {"a": 1}, "name": "f"}',
        '{"name": "f", "parameters": {"a": 1}}',
        '{"name": "f", "arguments": "{\\"a\\": 1}"}',
    ):
        _, [[name, arguments]] = parsed(f"<tool_call>{inside}</tool_call>")
        assert (name, json.loads(arguments)) == ("f", {"a": 1})
    assert parsed('<tool_call>{"name": "f"}</tool_call>') == ("", [["f", "{}"]])


def test_an_answer_that_is_cut_off_in_a_call_has_what_is_there():
    text, [[name, arguments]] = parsed(CALL[:-30])
    assert text == "" and name == "weather" and '{"city": "Os\\"lo } </tool_call"}'.startswith(arguments)


def test_more_calls_than_wanted_are_left_out():
    assert parsed(f"{CALL}\n{CALL}\nbye", most_calls=1)[1] == [["weather", '{"city": "Os\\"lo } </tool_call"}']]
    assert parsed(f"{CALL}\n{CALL}\nbye", most_calls=1)[0] == ""


@given(CUTS)
def test_a_call_without_tags_is_the_whole_answer(places):
    text = BARE.call("weather", '{"city": "Oslo"}')
    assert parsed(cut(text, places), BARE) == ("", [["weather", '{"city": "Oslo"}']])
    assert parsed(cut('{"a": 1} is JSON', places), BARE) == ('{"a": 1} is JSON', [])
    assert parsed(cut(f"Well: {text}", places), BARE) == (f"Well: {text}", [])
