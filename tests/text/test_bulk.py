import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.text.bulk import CHECKED_FIRST, DifferentIdsError, ExactEncoder, FastEncoder, bulk_encoder, fast_encoder
from mamba_slm.text.hostile import hostile_texts
from mamba_slm.text.train_tokenizer import PRE_TOKENIZERS, train_tokenizer

PROSE = "The quick brown fox doesn't jump over 12345 lazy dogs.\n\ndef fox(jump):\n        return jump + 1\n" * 20
TOKENIZERS = {name: train_tokenizer([PROSE], vocab_size=300, pre_tokenizer=name) for name in PRE_TOKENIZERS}
pytest.importorskip("fastokens")
FAST = {name: FastEncoder(tokenizer) for name, tokenizer in TOKENIZERS.items()}


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
@given(texts=st.lists(st.text(max_size=60), max_size=4))
def test_fast_ids_are_the_ids_of_the_tokenizer(name, texts):
    expected = [TOKENIZERS[name].encode(text) for text in texts]
    for encoder in (FAST[name], ExactEncoder(TOKENIZERS[name], "test")):
        ids, lengths = encoder.encode(texts)
        assert ids.dtype == np.uint32
        assert ids.tolist() == [id for found in expected for id in found]
        assert lengths.tolist() == list(map(len, expected))


def test_hostile_texts_are_the_same_everywhere():
    texts = hostile_texts()
    assert texts == hostile_texts() and len(texts) > 300
    assert all(text.encode().decode() == text for text in texts)


def test_the_choice_and_its_reason_are_said():
    tokenizer = TOKENIZERS["llama3"]
    assert bulk_encoder(tokenizer).description.startswith("fastokens (compared with tokenizers")
    assert bulk_encoder(tokenizer, speed="exact").description == "tokenizers (asked for)"


def test_without_fastokens_the_exact_library_is_used_and_the_package_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastokens", None)
    fast_encoder.cache_clear()
    chosen = bulk_encoder(TOKENIZERS["llama3"])
    assert not chosen.is_fast
    assert chosen.description == "tokenizers (fastokens is not there: pip install 'mamba-slm[data]')"


class Wrong:
    """fastokens as it would be with a fault: one id is another one in texts with a certain word."""

    def __init__(self, fast, word):
        self.fast, self.word = fast, word

    def encode_batch_flat(self, texts, split_special_tokens):
        data, offsets = self.fast.encode_batch_flat(texts, split_special_tokens=split_special_tokens)
        ids, ends = np.frombuffer(data, "<u4").copy(), np.frombuffer(offsets, "<u8")
        for text, start, end in zip(texts, ends[:-1], ends[1:], strict=True):
            if self.word in text and end > start:
                ids[int(end) - 1] += 1
        return ids.tobytes(), offsets


def encoder_with_fault(word):
    encoder = FastEncoder(TOKENIZERS["llama3"])
    encoder.fast = Wrong(encoder.fast, word)
    return encoder


def test_a_wrong_id_in_the_first_texts_is_found_and_its_place_told():
    encoder = encoder_with_fault("dogs")
    encoder.encode(["fine"])
    with pytest.raises(DifferentIdsError, match=r"other ids than tokenizers near '.*lazy dogs'"):
        encoder.encode(["a lazy dogs"])


def test_a_wrong_id_in_the_ten_thousandth_text_is_found_and_a_new_part_is_checked_anew():
    encoder = encoder_with_fault("dogs")
    encoder.encode(["fine"] * CHECKED_FIRST)
    encoder.encode(["dogs"])  # not one of those that are compared
    encoder.encode(["fine"] * (9_999 - CHECKED_FIRST))
    with pytest.raises(DifferentIdsError):
        encoder.encode(["dogs"])
    encoder.begin()
    with pytest.raises(DifferentIdsError):
        encoder.encode(["dogs"])


def test_what_was_found_wrong_once_is_not_used_again():
    fast_encoder.cache_clear()
    encoder = bulk_encoder(TOKENIZERS["llama3"])
    assert bulk_encoder(TOKENIZERS["llama3"]) is encoder
    encoder.fast = Wrong(encoder.fast, "dogs")
    with pytest.raises(DifferentIdsError):
        encoder.encode(["dogs"])
    assert bulk_encoder(TOKENIZERS["llama3"]).description.startswith("tokenizers (fastokens gives other ids")
    fast_encoder.cache_clear()


def test_of_a_long_text_the_beginning_is_compared():
    encoder = encoder_with_fault("dogs")
    ids, lengths = encoder.encode(["x " * 40_000 + "dogs"])
    assert lengths.tolist() == [len(ids)]
    with pytest.raises(DifferentIdsError):
        encoder.encode(["dogs " * 40_000])


@pytest.mark.parametrize(
    "error", [ValueError("bad"), type("PanicException", (BaseException,), {})("index out of range")]
)
def test_a_library_that_fails_or_panics_is_a_difference(error):
    class Failing:
        def encode_batch_flat(self, texts, split_special_tokens):
            raise error

    encoder = FastEncoder(TOKENIZERS["llama3"])
    encoder.fast = Failing()
    with pytest.raises(DifferentIdsError, match="fastokens fails"):
        encoder.encode(["text"])


def test_an_interrupt_is_no_difference():
    class Interrupted:
        def encode_batch_flat(self, texts, split_special_tokens):
            raise KeyboardInterrupt

    encoder = FastEncoder(TOKENIZERS["llama3"])
    encoder.fast = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        encoder.encode(["text"])
