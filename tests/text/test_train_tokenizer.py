import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError, DataError, UnknownNameError
from mamba_slm.text.train_tokenizer import PRE_TOKENIZERS, measure_bytes_per_token, train_tokenizer

CODE = [f"def function_{i}(x):\n        if x:\n            return x + {i}\n\n" for i in range(300)]


@pytest.mark.parametrize("size", [260, 261, 300])
def test_the_vocabulary_has_exactly_the_size_asked_for(size):
    assert train_tokenizer(CODE, vocab_size=size).vocab_size == size


def test_all_256_bytes_are_tokens_whatever_the_text():
    tokenizer = train_tokenizer(["x"], vocab_size=260)
    assert {tokenizer.token_bytes(id) for id in range(4, 260)} == {bytes([byte]) for byte in range(256)}


def test_a_vocabulary_too_large_for_the_text_says_what_is_reachable():
    with pytest.raises(
        DataError, match=r"11 bytes of text are too few for a vocabulary of 300: they reach (\d+)"
    ) as caught:
        train_tokenizer(["hello hello"], vocab_size=300)
    reached = int(str(caught.value).split()[-1])
    assert f"--vocab-size {reached}" in caught.value.hint
    assert train_tokenizer(["hello hello"], vocab_size=reached).vocab_size == reached


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_no_text_is_an_error(texts):
    with pytest.raises(DataError, match="no text to train"):
        train_tokenizer(texts, vocab_size=260)


def test_a_vocabulary_without_room_for_the_bytes_is_refused():
    with pytest.raises(ConfigError, match="at least 260"):
        train_tokenizer(CODE, vocab_size=259)


def test_an_unknown_pre_tokenizer_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'llama3'"):
        train_tokenizer(CODE, vocab_size=300, pre_tokenizer="llama")


def test_training_is_reproducible_and_reads_its_texts_once():
    first = train_tokenizer(iter(CODE), vocab_size=300)
    second = train_tokenizer((text for text in CODE), vocab_size=300)
    assert first.fingerprint == second.fingerprint


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
@given(text=st.text(alphabet=st.sampled_from(list("aZ_é9 \t\r\n\u00a0(.'s\u3000"))))
@settings(max_examples=60)
def test_no_pre_tokenizer_loses_white_space(name, text):
    tokenizer = TRAINED[name]
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_code_pre_tokenizer_takes_a_line_end_with_its_indentation():
    def needed(name):
        return len(TRAINED[name].encode("x):\n        if x:\n            return x + 1"))

    assert needed("code") < needed("llama3")


def test_a_megabyte_of_one_letter_is_trained_on_and_encoded_in_bounded_work():
    tokenizer = train_tokenizer(["a" * 1_000_000], vocab_size=266)
    assert max(len(tokenizer.token_bytes(id)) for id in range(266)) == 64
    assert len(tokenizer.encode("a" * 6400)) == 100


def test_bytes_per_token_counts_utf8_bytes():
    tokenizer = train_tokenizer(["x"], vocab_size=260)
    assert measure_bytes_per_token(tokenizer, ["né", "你好"]) == 1.0
    assert measure_bytes_per_token(TRAINED["llama3"], CODE) > 3
    with pytest.raises(DataError, match="no text to measure"):
        measure_bytes_per_token(tokenizer, [])


TRAINED = {name: train_tokenizer(CODE, vocab_size=400, pre_tokenizer=name) for name in PRE_TOKENIZERS}
