from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.text.long_words import LongWords
from mamba_slm.text.tokenizer import Tokenizer
from mamba_slm.text.train_tokenizer import PRE_TOKENIZERS, train_tokenizer

VOCABULARIES = Path(__file__).parents[2].parent / "shared" / "data" / "tokenizers"
TEXTS = ["abab aab abba baaab" * 3, "aaaaaaaa" * 8, "你好世界你们好" * 9, "don't go" * 5]
MERGING = {name: train_tokenizer(TEXTS, vocab_size=290, pre_tokenizer=name) for name in PRE_TOKENIZERS}
SMALL = {"long_word": 30, "window_bytes": 60, "overlap_bytes": 30}


def encoded(tokenizer, text, **settings):
    words = LongWords(tokenizer, **{**SMALL, **settings})
    return words.encode(text, lambda piece: np.asarray(tokenizer.encode(piece), dtype=np.int64))


def words_of(letters):
    return st.text(st.sampled_from(letters), min_size=30, max_size=400)


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
@given(
    word=words_of("ab") | words_of("你好世界们") | words_of("aé你"), around=st.sampled_from(["", " ", "'", "\n ", "1'"])
)
def test_windows_give_the_ids_of_the_whole(name, word, around):
    text = f"{around}{word}{around}s {word[::-1]} end"
    found = encoded(MERGING[name], text)
    assert found is not None and found.tolist() == MERGING[name].encode(text)


@pytest.mark.parametrize("unit", ["a", "ab", "aab", "你", "你好世界", "ǆ"])
def test_a_word_that_repeats_gives_the_ids_of_the_whole(unit):
    for length in range(30, 300, 7):
        text = (unit * length)[:length]
        found = encoded(MERGING["llama3"], text)
        assert found is not None and found.tolist() == MERGING["llama3"].encode(text)


@pytest.mark.skipif(not VOCABULARIES.is_dir(), reason="needs ../shared/data, which is not here")
@pytest.mark.parametrize("name", ["gpt2", "neox/20B_tokenizer.json"])
def test_words_of_real_letters_give_the_ids_of_the_whole(name):
    tokenizer = Tokenizer.load(VOCABULARIES / name)
    alice = (
        (VOCABULARIES.parent / "corpora/gutenberg/en_Alice-s-Adventures-in-Wonderland_11-0.txt").read_bytes().decode()
    )
    letters = "".join(filter(str.isalpha, alice))[:60_000]
    for text in (letters, letters.lower(), letters.upper(), "a" * 5000, "ha" * 3000, "0 " + "é" * 4000 + "'s"):
        found = encoded(tokenizer, text, window_bytes=1000, overlap_bytes=100)
        assert found is not None and found.tolist() == tokenizer.encode(text)


def test_other_texts_are_left_to_others():
    assert encoded(MERGING["llama3"], "short words only " * 100) is None
    assert encoded(MERGING["llama3"], "1" * 1000) is None
