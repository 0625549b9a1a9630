"""Which words are judged, and that the evidence is a sum over them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.data.curation.language.definition import (
    MAX_LETTERS,
    MAX_WORD_SCORE,
    Evidence,
    judged,
    slots,
    weigh,
    without_code,
    word_scorer,
)

TABLE = np.random.default_rng(1).integers(-40, 41, 1 << 10).astype(np.int8)
SCORE = word_scorer(TABLE)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('The cat, the CAT; and (perhaps) "a dog".', "the cat the cat and perhaps a dog"),
        ("It's l’eau, rock-and-roll, 'quoted'", "it's l'eau rock and roll quoted"),
        ("ls -la --color /etc/hosts ~/x a.b f(x) x=1 $HOME 42 3rd user@example.org https://a.b/c", "ls"),
        ("*bold* _slanted_ **[linked** <p>lost</p> {lost} snake_case", "bold slanted linked"),
        ("run `git commit -m 'words inside'` now and ``x`` then", "run now and then"),
        (
            "a lone ` tick ends nothing\nand the next line ` neither",
            "a lone tick ends nothing and the next line neither",
        ),
        ("before\n```\ncode of some kind\n```\nafter", "before after"),
        ("before\n  ```sh\ncode\n\t````\nafter ```not a fence``` end", "before after end"),
        ("before\n```\nnothing closes this", "before nothing closes this"),
        ("- -word -- --", ""),
        ("word- -word wo--rd", "wo rd"),
    ],
)
def test_words_of_letters_are_judged_and_examples_of_code_are_not(text, words):
    assert list(judged(text)) == words.split()


def test_letters_of_other_scripts_count_in_words_of_four_and_one_alone_is_a_symbol():
    assert list(judged("the angle α is Δx, мир, привет, 你好世界。你好世界啊")) == ["the", "angle", "is", 1, 2, 1, 2]


def test_text_without_ticks_has_no_code():
    text = "just words\n\n    indented words\n"
    assert without_code(text) is text


@pytest.mark.parametrize("ticks", ["`" * 100_000, "` " * 50_000, "```\n" * 50_000, "a`b" * 50_000, "``` x ` " * 20_000])
def test_ticks_without_end_cost_no_more_than_their_number(ticks):
    assert len(without_code(ticks)) <= len(ticks)


def test_every_word_has_its_grams_and_itself_in_the_table():
    assert len(slots("a", 10)) == 1 + 0 + 1
    assert len(slots("cat", 10)) == 3 + 2 + 1
    assert slots("cat", 10)[:3] != slots("act", 10)[:3]
    assert slots("x" * 100, 10) == slots("x" * MAX_LETTERS, 10)
    assert all(0 <= slot < 1 << 10 for slot in slots("naïveté", 10))


def test_no_word_counts_for_more_than_the_limit():
    loud = word_scorer(np.full(1 << 10, 127, np.int8))
    assert loud("antidisestablishment") == MAX_WORD_SCORE
    assert word_scorer(np.full(1 << 10, -127, np.int8))("cat") == -MAX_WORD_SCORE


def test_another_script_speaks_against_english_as_loudly_as_a_word_can():
    assert weigh("привет", SCORE) == Evidence(words=0, foreign_words=2, score=-2 * MAX_WORD_SCORE)
    assert weigh("", SCORE) == weigh("42 -> 43", SCORE) == Evidence(words=0, foreign_words=0, score=0)


texts = st.lists(st.sampled_from(["the", "chat", "Жук", "x1", "a-b", "don't", "…", "(see)"]), max_size=20)


@given(texts, texts)
def test_the_evidence_of_two_texts_is_the_sum_in_either_order(first, second):
    one, other, both = (weigh(" ".join(words), SCORE) for words in (first, second, [*second, *first]))
    assert both == Evidence(
        words=one.words + other.words,
        foreign_words=one.foreign_words + other.foreign_words,
        score=one.score + other.score,
    )
