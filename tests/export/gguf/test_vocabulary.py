"""Promises of the vocabulary: what a GGUF says about a tokenizer encodes every text as the tokenizer does."""

import json
from pathlib import Path

import pytest
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from mamba_slm.core.errors import DataError
from mamba_slm.export.gguf.vocabulary import (
    CONTROL,
    CUTS,
    LLAMA3_CUT,
    NORMAL,
    QWEN2_CUT,
    UNUSED,
    USER_DEFINED,
    notes_about,
    pre_tokenizer_of,
    refuse_unsayable,
    steps_of,
    tokenizer_from_keys,
    vocabulary_of,
)
from mamba_slm.export.probes import TEXT
from mamba_slm.text.hostile import hostile_texts
from mamba_slm.text.tokenizer import Tokenizer
from mamba_slm.text.train_tokenizer import PRE_TOKENIZERS, train_tokenizer
from small_models import VOCAB_SIZE, small_tokenizer

SHARED = Path(__file__).parents[3].parent / "shared" / "data"
VOCABULARY = vocabulary_of(small_tokenizer(), VOCAB_SIZE)


def keys_of(vocabulary):
    """The keys of a file, as a reader finds them."""
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": vocabulary.pre,
        "tokenizer.ggml.tokens": list(vocabulary.tokens),
        "tokenizer.ggml.token_type": list(vocabulary.types),
        "tokenizer.ggml.merges": list(vocabulary.merges),
    }


def description_of(pre_tokenizer=None, *, ignore_merges=False, normalizer=None):
    """A tokenizer.json with little in it."""
    backend = tokenizers.Tokenizer(models.BPE(vocab={"a": 0, "b": 1, "ab": 2}, merges=[("a", "b")]))
    backend.model.ignore_merges = ignore_merges
    if pre_tokenizer is not None:
        backend.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        backend.normalizer = normalizer
    return json.loads(backend.to_str())


REBUILT = tokenizer_from_keys(keys_of(VOCABULARY))


@given(text=st.text())
@example(text=TEXT)
@example(text="  1234567 12 don't I'LL\r\n\r\n\t x <|im_end|> e\u0301 ½ \u00a0\u3000 👩‍👩‍👧")
def test_the_tokenizer_in_the_file_encodes_every_text_as_ours(text):
    assert REBUILT.encode(text) == small_tokenizer().encode(text)
    assert REBUILT.decode(REBUILT.encode(text)) == text


def test_tokens_have_the_types_and_ids_that_the_model_was_trained_with():
    tokenizer = small_tokenizer()
    assert VOCABULARY.pre == "llama-bpe"
    assert VOCABULARY.types[:4] == (CONTROL,) * 4
    assert set(VOCABULARY.types[4:]) == {NORMAL}
    assert VOCABULARY.tokens[:2] == ("<|endoftext|>", "<|im_start|>")
    assert (VOCABULARY.bos_id, VOCABULARY.eos_id, VOCABULARY.pad_id, VOCABULARY.end_of_turn_id) == (0, 0, 3, 2)
    assert len(VOCABULARY.tokens) == VOCAB_SIZE
    assert all(tokenizer.backend.token_to_id(text) == id for id, text in enumerate(VOCABULARY.tokens))
    assert all(len(merge.split(" ")) == 2 for merge in VOCABULARY.merges)
    assert VOCABULARY.notes == ()


def test_rows_without_a_token_are_unused_and_never_met():
    larger = vocabulary_of(small_tokenizer(), VOCAB_SIZE + 8)
    assert larger.types[-8:] == (UNUSED,) * 8
    assert len(set(larger.tokens)) == VOCAB_SIZE + 8
    assert tokenizer_from_keys(keys_of(larger)).encode(TEXT) == small_tokenizer().encode(TEXT)


def test_added_tokens_that_are_not_special_are_met_in_text():
    backend = tokenizers.Tokenizer.from_str(small_tokenizer().backend.to_str())
    backend.add_tokens([AddedToken("    ", normalized=False)])
    tokenizer = Tokenizer(backend)
    found = vocabulary_of(tokenizer, VOCAB_SIZE + 8)
    assert found.types[VOCAB_SIZE] == USER_DEFINED
    assert VOCAB_SIZE in tokenizer.encode("x    y")
    assert tokenizer_from_keys(keys_of(found)).encode("x    y     z") == tokenizer.encode("x    y     z")


@pytest.mark.parametrize(
    "name, pre_tokenizer, ignore_merges",
    [
        ("llama-bpe", LLAMA3_CUT, True),
        ("dbrx", LLAMA3_CUT, False),
        ("qwen2", QWEN2_CUT, False),
        ("gpt-2", None, False),
        ("smollm", "digits", False),
    ],
)
def test_each_known_way_to_cut_has_a_name(name, pre_tokenizer, ignore_merges):
    steps = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre_tokenizer in (None, "digits"))]
    if pre_tokenizer == "digits":
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    elif pre_tokenizer is not None:
        steps.insert(0, pre_tokenizers.Split(Regex(pre_tokenizer), "isolated"))
    assert pre_tokenizer_of(description_of(pre_tokenizers.Sequence(steps), ignore_merges=ignore_merges)) == name
    assert tuple(steps_of(description_of(pre_tokenizers.Sequence(steps))["pre_tokenizer"])) == CUTS[name][0]


def test_our_own_cut_is_llama_s():
    assert PRE_TOKENIZERS["llama3"] == LLAMA3_CUT


@pytest.mark.parametrize(
    "pre_tokenizer",
    [
        None,
        pre_tokenizers.Whitespace(),
        pre_tokenizers.ByteLevel(add_prefix_space=True),
        pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.ByteLevel(False)]),
        pre_tokenizers.Split(Regex(LLAMA3_CUT), "removed"),
    ],
)
def test_another_way_to_cut_is_refused_and_shown_with_what_is_supported(pre_tokenizer):
    with pytest.raises(DataError, match="has no pre-tokenizer that cuts text like") as caught:
        pre_tokenizer_of(description_of(pre_tokenizer))
    assert "supported: Llama 3" in caught.value.hint


def test_a_tokenizer_trained_for_code_is_refused():
    tokenizer = train_tokenizer([TEXT], vocab_size=272, pre_tokenizer="code")
    with pytest.raises(DataError, match="no pre-tokenizer"):
        vocabulary_of(tokenizer, 272)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda d: d["model"].update(merges=[]), "has no merges"),
        (lambda d: d["model"].update(dropout=0.1), "dropout = 0.1"),
        (lambda d: d["model"].update(byte_fallback=True), "byte_fallback = True"),
        (lambda d: d.update(normalizer={"type": "Lowercase"}), "normalises text with Lowercase"),
        (
            lambda d: d["added_tokens"].append(
                {"content": "x", "lstrip": True, "rstrip": False, "single_word": False, "special": False}
            ),
            "the token 'x' has lstrip",
        ),
    ],
)
def test_what_a_gguf_cannot_say_is_refused(change, message):
    description = description_of()
    refuse_unsayable(description)
    change(description)
    with pytest.raises(DataError, match=message):
        refuse_unsayable(description)


def test_composing_characters_first_is_said():
    assert notes_about(description_of()) == ()
    (note,) = notes_about(description_of(normalizer=normalizers.NFC()))
    assert "NFC" in note


def test_a_file_with_a_tokenizer_that_we_do_not_know_has_none():
    keys = keys_of(VOCABULARY)
    assert tokenizer_from_keys({**keys, "tokenizer.ggml.model": "llama"}) is None
    assert tokenizer_from_keys({**keys, "tokenizer.ggml.pre": "tekken"}) is None
    nameless = [text.replace("endoftext", "finis") for text in keys["tokenizer.ggml.tokens"]]
    assert tokenizer_from_keys({**keys, "tokenizer.ggml.tokens": nameless}) is None


def test_tokens_of_the_same_text_are_refused():
    backend = tokenizers.Tokenizer.from_str(small_tokenizer().backend.to_str())
    backend.add_tokens([AddedToken(f"[unused {VOCAB_SIZE + 1}]", normalized=False)])
    with pytest.raises(DataError, match="two tokens of the tokenizer have the same text"):
        vocabulary_of(Tokenizer(backend), VOCAB_SIZE + 8)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data, which is not here")
def test_gpt2_and_neox_tokenizers_come_back_on_real_text():
    texts = [path.read_text("utf-8")[:2000] for path in sorted((SHARED / "curation" / "langid").glob("*.txt"))]
    for name, noted in (("gpt2_tokenizer.json", False), ("20B_tokenizer.json", True)):
        tokenizer = Tokenizer.load(SHARED / "tokenizers" / "neox" / name)
        vocabulary = vocabulary_of(tokenizer, tokenizer.vocab_size)
        assert vocabulary.pre == "gpt-2"
        assert bool(vocabulary.notes) == noted
        found = tokenizer_from_keys(keys_of(vocabulary))
        same = [found.encode(text) == tokenizer.encode(text) for text in texts]
        assert len(texts) > 70
        if noted:
            assert sum(same) > 60  # the others have characters that NFC composes
        else:
            assert all(same)
        assert isinstance(found.backend.decoder, decoders.ByteLevel)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data, which is not here")
@pytest.mark.parametrize(
    ("name", "pre"), [("gpt2", "gpt-2"), pytest.param("tiktoken", "llama-bpe", marks=pytest.mark.slow)]
)
def test_vocabularies_in_other_forms_reach_a_file_that_encodes_as_they_do(name, pre):
    tokenizer = Tokenizer.load(SHARED / "tokenizers" / name)
    found = vocabulary_of(tokenizer, tokenizer.vocab_size + 11)
    assert found.pre == pre
    rebuilt = tokenizer_from_keys(keys_of(found))
    for text in hostile_texts():
        assert rebuilt.encode(text) == tokenizer.encode(text), text
