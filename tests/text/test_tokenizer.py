import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mamba_slm.core.errors import DataError
from mamba_slm.text.tokenizer import SPECIAL_TOKENS, Tokenizer
from mamba_slm.text.train_tokenizer import train_tokenizer

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
BYTES_ONLY = train_tokenizer(["x"], vocab_size=260)


@given(text=st.text())
@example(text="  two  spaces\t\r\n\r\n    indented\n")
@example(text="<|endoftext|><|im_start|>system")
@example(text="नमस्ते 👩‍👩‍👧 \u0000 \ufeff e\u0301")
def test_every_text_survives_encoding(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert BYTES_ONLY.decode(BYTES_ONLY.encode(text)) == text


@given(texts=st.lists(st.text(max_size=40), max_size=5))
def test_a_batch_encodes_like_its_members(tokenizer, texts):
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


@given(text=st.text())
def test_the_bytes_of_the_tokens_are_the_bytes_of_the_text(tokenizer, text):
    ids = tokenizer.encode(text)
    assert b"".join(tokenizer.token_bytes(id) for id in ids) == text.encode()
    lengths = tokenizer.token_byte_lengths()
    assert sum(lengths[id] for id in ids) == len(text.encode())


@pytest.mark.parametrize("name", SPECIAL_TOKENS)
def test_user_text_never_becomes_a_special_token(tokenizer, name):
    for text in (name, f"a{name}b", name * 3):
        assert not tokenizer.special_ids & set(tokenizer.encode(text))
        assert not tokenizer.special_ids & set(tokenizer.encode_batch([text])[0])


def test_special_tokens_come_first_in_a_fixed_order(tokenizer):
    assert [tokenizer.special_id(name) for name in SPECIAL_TOKENS] == [0, 1, 2, 3]
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (0, 0, 3)
    assert tokenizer.special_ids == {0, 1, 2, 3}


def test_special_tokens_are_shown_only_on_request(tokenizer):
    ids = [0, *tokenizer.encode("fox"), 2]
    assert tokenizer.decode(ids) == "fox"
    assert tokenizer.decode(ids, skip_special=False) == "<|endoftext|>fox<|im_end|>"
    assert tokenizer.token_bytes(2) == b"<|im_end|>"
    assert tokenizer.token_text(2) == "<|im_end|>"
    assert tokenizer.token_byte_lengths()[:4] == [0, 0, 0, 0]


def test_a_saved_tokenizer_is_the_same_one(tokenizer, tmp_path):
    file = tokenizer.save(tmp_path)
    for path in (tmp_path, file, str(file)):
        loaded = Tokenizer.load(path)
        assert loaded.fingerprint == tokenizer.fingerprint
        assert loaded.vocab_size == tokenizer.vocab_size == 300
        assert loaded.encode("a lazy fox") == tokenizer.encode("a lazy fox")
    assert repr(loaded) == f"Tokenizer(vocab_size=300, fingerprint={tokenizer.fingerprint[:12]})"


def test_the_fingerprint_ignores_layout_and_sees_content(tokenizer, tmp_path):
    file = tokenizer.save(tmp_path)
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")), indent=7), "utf-8")
    assert Tokenizer.load(file).fingerprint == tokenizer.fingerprint
    assert BYTES_ONLY.fingerprint != tokenizer.fingerprint


def test_a_missing_tokenizer_is_explained(tmp_path):
    with pytest.raises(DataError, match="no tokenizer at") as caught:
        Tokenizer.load(tmp_path)
    assert "train-tokenizer" in caught.value.hint


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"model": {}}', "\x00\x01"])
def test_a_file_that_is_no_tokenizer_is_named(tmp_path, content):
    file = tmp_path / "tokenizer.json"
    file.write_text(content)
    with pytest.raises(DataError, match=r"tokenizer\.json is not a"):
        Tokenizer.load(file)


def test_a_tokenizer_that_would_lose_text_is_refused(tokenizer, tmp_path):
    description = json.loads(tokenizer.backend.to_str())
    description["decoder"] = {"type": "Fuse"}
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(description), "utf-8")
    with pytest.raises(DataError, match="not a byte-level BPE"):
        Tokenizer.load(file)


def test_a_tokenizer_without_an_end_token_is_refused(tokenizer, tmp_path):
    description = json.loads(tokenizer.backend.to_str())
    description["added_tokens"] = [token for token in description["added_tokens"] if token["id"] != 0]
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(description), "utf-8")
    with pytest.raises(DataError, match="marks the end of a document"):
        Tokenizer.load(file)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data, which is not here")
@pytest.mark.parametrize(
    ("name", "end", "size"), [("gpt2_tokenizer.json", 50256, 50257), ("20B_tokenizer.json", 0, 50277)]
)
def test_tokenizers_of_other_projects_load(name, end, size):
    tokenizer = Tokenizer.load(SHARED / "tokenizers" / "neox" / name)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.vocab_size) == (end, end, size)
    text = "Hello <|endoftext|>  world\n\n\tnaïve 你好"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert end not in tokenizer.encode(text)
    assert len(tokenizer.token_byte_lengths()) == size
    with pytest.raises(DataError, match=r"no special token <\|im_end\|>"):
        tokenizer.special_id("<|im_end|>")


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data, which is not here")
def test_real_books_and_seventy_five_languages_survive_encoding(tokenizer):
    texts = [path.read_text("utf-8")[:3000] for path in sorted((SHARED / "curation" / "langid").glob("*.txt"))]
    texts.append(
        (SHARED / "corpora/gutenberg/en_Alice-s-Adventures-in-Wonderland_11-0.txt").read_bytes().decode()[:50_000]
    )
    assert len(texts) > 70
    for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True):
        assert tokenizer.decode(ids) == text
