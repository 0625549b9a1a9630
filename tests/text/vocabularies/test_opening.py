"""Each form of vocabulary gives the ids that its own library gives, and any text comes back."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import DataError
from mamba_slm.text.hostile import hostile_texts
from mamba_slm.text.tokenizer import Tokenizer
from mamba_slm.text.vocabularies.gpt2_files import pair_of
from mamba_slm.text.vocabularies.opening import find_vocabulary

VOCABULARIES = Path(__file__).parents[3].parent / "shared" / "data" / "tokenizers"
needs_vocabularies = pytest.mark.skipif(not VOCABULARIES.is_dir(), reason="needs ../shared/data, which is not here")
LETTERS = st.text(st.sampled_from(list("ab ▁'sS\n\r\t19é你<>/_=\u00a0\u3000e\u0301😀\0")), max_size=40)


@pytest.fixture(scope="session")
def sentencepiece_file(tmp_path_factory):
    """A small sentencepiece model with byte fallback, trained here."""
    return trained(tmp_path_factory.mktemp("spm"), byte_fallback=True, vocab_size=400)


def trained(folder, **settings):
    sentencepiece = pytest.importorskip("sentencepiece")
    settings = {
        "model_type": "bpe",
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "vocab_size": 60,
        **settings,
    }
    model = io.BytesIO()
    text = ["the quick brown fox jumps over the lazy dog and the hen", "  indented   text", "don't do 123 things"] * 20
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text), model_writer=model, hard_vocab_limit=False, minloglevel=9, **settings
    )
    file = folder / "tokenizer.model"
    file.write_bytes(model.getvalue())
    return file


@given(text=LETTERS | st.text())
@settings(max_examples=200)
def test_a_sentencepiece_model_gives_the_ids_of_sentencepiece(sentencepiece_file, text):
    theirs, ours = opened(sentencepiece_file)
    ids = ours.encode(text)
    assert ids == theirs.encode(text)
    assert ours.decode(ids) == text.replace("▁", " ")
    said = b"".join(map(ours.token_bytes, ids))
    assert said == (ours.alphabet.prefix + text.replace("▁", " ").encode() if text else b"")
    lengths = ours.token_byte_lengths()
    assert sum(lengths[id] for id in ids) == len(said)


@given(text=LETTERS)
def test_text_that_goes_on_gets_no_space_before_it(sentencepiece_file, text):
    tokenizer = opened(sentencepiece_file)[1]
    said = b"".join(map(tokenizer.token_bytes, tokenizer.encode(text, continues=True)))
    assert said == text.replace("▁", " ").encode()


def opened(file, cache={}):  # noqa: B006
    if file not in cache:
        import sentencepiece

        cache[file] = sentencepiece.SentencePieceProcessor(model_file=str(file)), Tokenizer.load(file)
    return cache[file]


def test_a_sentencepiece_tokenizer_says_what_it_is_and_what_it_loses(sentencepiece_file, tmp_path):
    tokenizer = Tokenizer.load(sentencepiece_file)
    assert tokenizer.alphabet.name == "sentencepiece with byte fallback"
    assert tokenizer.losses == ("the character ▁ (U+2581), its mark for a space, comes back as a space",)
    assert (tokenizer.token_text(tokenizer.bos_id), tokenizer.token_text(tokenizer.eos_id)) == ("<s>", "</s>")
    saved = Tokenizer.load(tokenizer.save(tmp_path))
    assert saved.fingerprint == tokenizer.fingerprint
    assert saved.encode("a </s> 你") == tokenizer.encode("a </s> 你")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "no byte fallback"),
        ({"byte_fallback": True, "vocab_size": 400, "model_type": "unigram"}, "Unigram"),
        ({"byte_fallback": True, "vocab_size": 400, "normalization_rule_name": "nfkc"}, "replaces characters"),
        ({"byte_fallback": True, "vocab_size": 400, "remove_extra_whitespaces": True}, "removes spaces"),
    ],
)
def test_a_sentencepiece_model_that_loses_text_is_refused_with_the_reason(tmp_path, settings, reason):
    file = trained(tmp_path, **settings)
    with pytest.raises(DataError, match=reason) as caught:
        Tokenizer.load(file)
    assert str(file) in str(caught.value)


@needs_vocabularies
def test_mistral_gives_the_ids_of_sentencepiece():
    sentencepiece = pytest.importorskip("sentencepiece")
    file = VOCABULARIES / "mistral" / "tokenizer.model.v1"
    theirs, ours = sentencepiece.SentencePieceProcessor(model_file=str(file)), Tokenizer.load(file.parent)
    assert (ours.vocab_size, ours.bos_id, ours.eos_id) == (32_000, 1, 2)
    for text in hostile_texts():
        assert ours.encode(text) == theirs.encode(text), text
        assert ours.decode(ours.encode(text)) == text.replace("▁", " ")


@needs_vocabularies
def test_cl100k_gives_the_ids_of_tiktoken():
    tiktoken = pytest.importorskip("tiktoken")
    load = pytest.importorskip("tiktoken.load").load_tiktoken_bpe
    file = VOCABULARIES / "tiktoken" / "cl100k_base.tiktoken"
    pattern = (  # tiktoken 0.14, tiktoken_ext/openai_public.py
        r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"""
        r"""|\s+(?!\S)|\s"""
    )
    theirs = tiktoken.Encoding(
        "cl100k", pat_str=pattern, mergeable_ranks=load(str(file)), special_tokens={"<|endoftext|>": 100257}
    )
    ours = Tokenizer.load(file)
    assert (ours.vocab_size, ours.bos_id, ours.eos_id) == (100_277, 100_257, 100_257)
    for text in hostile_texts(600):
        ids = ours.encode(text)
        assert ids == theirs.encode_ordinary(text), text
        assert ours.decode(ids) == text
    assert ours.token_text(100_276) == "<|endofprompt|>"
    assert ours.losses == ()


@needs_vocabularies
def test_gpt2_in_two_files_is_gpt2_in_one():
    pair = Tokenizer.load(VOCABULARIES / "gpt2")
    one = Tokenizer.load(VOCABULARIES / "neox" / "gpt2_tokenizer.json")
    assert (pair.vocab_size, pair.eos_id) == (one.vocab_size, one.eos_id) == (50_257, 50_256)
    for text in hostile_texts():
        assert pair.encode(text) == one.encode(text), text
    folder = VOCABULARIES / "gpt2"
    for name in ("encoder.json", "vocab.bpe"):  # either of them names both
        assert pair_of(folder / name) == (folder / "encoder.json", folder / "vocab.bpe")


def test_the_other_names_of_gpt2s_files_are_known(tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}))
    assert find_error(tmp_path) == "no tokenizer at"
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n\n")
    assert Tokenizer.load(tmp_path).encode("ab") == [2]


def find_error(folder):
    with pytest.raises(DataError) as caught:
        find_vocabulary(folder)
    return str(caught.value)[:15]


def test_a_folder_with_two_vocabularies_asks_which(tmp_path):
    for name in ("a.tiktoken", "b.tiktoken"):
        (tmp_path / name).write_text("IQ== 0\n")
    with pytest.raises(DataError, match="more than one vocabulary"):
        find_vocabulary(tmp_path)
    with pytest.raises(DataError, match="1 ranks of no known encoding"):
        Tokenizer.load(tmp_path / "a.tiktoken")


@pytest.mark.parametrize("content", [b"IQ== 0\nIg==\n", b"IQ== 0\n!! 1\n", b"IQ== 0\nIg== x\n"])
def test_a_damaged_line_of_ranks_is_named(tmp_path, content):
    (tmp_path / "x.tiktoken").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.tiktoken:2"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("content", [b"\x0a\x07\x0a\x05<unk", b"\x0a\x02\x0a\x00\x12\xff", b"\x0a\x02\x0a\x05ab"])
def test_a_damaged_model_is_named(tmp_path, content):
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(DataError, match=r"tokenizer\.model"):
        Tokenizer.load(tmp_path)
