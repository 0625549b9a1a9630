"""Every character of Unicode, in places where cutting and merging depend on it, has the same ids in both libraries."""

import unicodedata
from pathlib import Path

import pytest

from mamba_slm.text.bulk import FastEncoder
from mamba_slm.text.tokenizer import Tokenizer
from mamba_slm.text.train_tokenizer import PRE_TOKENIZERS, train_tokenizer

VOCABULARIES = Path(__file__).parents[3].parent / "shared" / "data" / "tokenizers"
BATCH = 20_000

pytestmark = pytest.mark.slow


def texts():
    points = [*range(0xD800), *range(0xE000, 0x110000)]
    chosen = [point for point in points if unicodedata.category(chr(point)) not in ("Cn", "Co") or point % 97 == 0]
    return [f"a{c}b 1{c}1 {c}{c} \n{c}\n'{c}s" for c in map(chr, chosen)]


def check(tokenizer):
    pytest.importorskip("fastokens")
    encoder, all_texts = FastEncoder(tokenizer), texts()
    assert len(all_texts) > 150_000
    for start in range(0, len(all_texts), BATCH):
        batch = all_texts[start : start + BATCH]
        ids, places = encoder.encode_unchecked(batch)
        for number, (text, expected) in enumerate(zip(batch, tokenizer.encode_batch(batch), strict=True)):
            assert ids[places[number] : places[number + 1]].tolist() == expected, text


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_of_tokenizers_trained_here(name):
    check(train_tokenizer(["a b'c 1 "] * 3, vocab_size=262, pre_tokenizer=name))


@pytest.mark.skipif(not VOCABULARIES.is_dir(), reason="needs ../shared/data, which is not here")
@pytest.mark.parametrize("name", ["gpt2", "mistral", "neox/20B_tokenizer.json", "tiktoken"])
def test_of_vocabularies_of_other_projects(name):
    check(Tokenizer.load(VOCABULARIES / name))
