from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.text.cutting import NOWHERE, Cutter
from mamba_slm.text.hostile import hostile_texts
from mamba_slm.text.tokenizer import Tokenizer
from mamba_slm.text.train_tokenizer import PRE_TOKENIZERS, train_tokenizer

VOCABULARIES = Path(__file__).parents[2].parent / "shared" / "data" / "tokenizers"
TEXTS = ["a\nb \n\n a\r\nb(\n  (\nab", "don't a b's 12 ab1"] * 50
MERGING = {name: train_tokenizer(TEXTS, vocab_size=270, pre_tokenizer=name) for name in PRE_TOKENIZERS}


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
@given(text=st.text(alphabet=st.sampled_from(list("abst' \n\r\t(19é\u00a0e\u0301你，_.!"))))
def test_cutting_a_long_text_changes_no_token(name, text):
    pieces = Cutter(MERGING[name]).cut(text, piece_characters=3)
    assert "".join(pieces) == text
    ids = [id for piece in pieces for id in MERGING[name].encode(piece)]
    assert ids == MERGING[name].encode(text)


@pytest.mark.skipif(not VOCABULARIES.is_dir(), reason="needs ../shared/data, which is not here")
@pytest.mark.parametrize("name", ["gpt2", "mistral", "neox/20B_tokenizer.json"])
def test_cutting_changes_no_token_of_other_vocabularies(name):
    tokenizer = Tokenizer.load(VOCABULARIES / name)
    cutter = Cutter(tokenizer)
    prose = "The hen's 12 eggs  weren't cold, she said. 你好，世界。 It_is x2\n\n  and\tso on\r\nthen a b c d e f\n" * 3
    num_pieces = 0
    for text in [prose, *hostile_texts(200)]:
        pieces = cutter.cut(text, piece_characters=2)
        num_pieces += len(pieces)
        assert [id for piece in pieces for id in tokenizer.encode(piece)] == tokenizer.encode(text), text
    assert num_pieces > 240


@pytest.mark.parametrize("unit", ["line of text\n", "one long line, ", "ACGT0123", "你好，世界。"])
def test_a_long_text_is_cut_into_pieces_of_bounded_size(unit):
    pieces = Cutter(MERGING["llama3"]).cut(unit * 1000, piece_characters=100)
    assert max(map(len, pieces)) < 120


def test_what_has_no_safe_place_stays_whole():
    assert Cutter(MERGING["llama3"]).cut("x" * 1000, piece_characters=100) == ["x" * 1000]


def test_a_tokenizer_of_unknown_ways_is_cut_at_line_ends_or_not_at_all():
    import json

    import tokenizers

    description = json.loads(MERGING["llama3"].backend.to_str())
    description["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\S+|\s+"
    other = Cutter(Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(description))))
    assert other.cut("one two three\nfour", piece_characters=2) == ["one two three\n", "four"]
    assert NOWHERE.search("anything") is None
