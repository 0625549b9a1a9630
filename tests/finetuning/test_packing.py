"""Rows hold every example once and whole."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.data.conversations.read import read_conversations
from mamba_slm.finetuning.collate import packed_batch, padded_batch
from mamba_slm.finetuning.examples import EncodedExample, encode_conversations
from mamba_slm.finetuning.packing import packed_rows
from mamba_slm.text.chat import CHATML_TEMPLATE
from small_models import small_tokenizer

INSTRUCTIONS = Path(__file__).parents[2].parent / "shared" / "data" / "instructions"


def examples_of(lengths):
    return [
        EncodedExample(tuple(range(length)), (False,) * length, f"line {number}")
        for number, length in enumerate(lengths)
    ]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=60), st.integers(20, 40), st.integers(0, 3))
def test_every_example_is_in_one_row_and_no_row_is_too_long(lengths, row_tokens, seed):
    examples = examples_of(lengths)
    packed = packed_rows(examples, row_tokens=row_tokens, seed=seed)
    assert sorted(example.origin for row in packed for example in row) == sorted(one.origin for one in examples)
    assert all(0 < sum(len(example.tokens) for example in row) <= row_tokens for row in packed)
    assert packed == packed_rows(examples, row_tokens=row_tokens, seed=seed)
    half_empty = [row for row in packed if sum(len(example.tokens) for example in row) * 2 <= row_tokens]
    assert len(half_empty) <= 1, "two of them would be one row"


def test_the_seed_decides_what_shares_a_row():
    examples = examples_of([5] * 40)
    assert packed_rows(examples, row_tokens=20, seed=1) != packed_rows(examples, row_tokens=20, seed=2)


def test_how_full_the_rows_are_is_said():
    packed = packed_rows(examples_of([6, 4, 5]), row_tokens=10)
    assert str(packed).startswith(
        "3 examples packed into 2 rows of 10 tokens: 75.0% of the places hold tokens, 1.5 examples in a row"
    )


def test_an_example_that_fits_into_no_row_is_refused():
    with pytest.raises(ConfigError, match="line 0 has 30 tokens and does not fit into a row of 20"):
        packed_rows(examples_of([30]), row_tokens=20)
    with pytest.raises(DataError, match="no examples"):
        packed_rows([], row_tokens=20)


@pytest.mark.skipif(not INSTRUCTIONS.is_dir(), reason="../shared/data is absent")
@pytest.mark.parametrize("name", ["llamafactory/alpaca_en_demo.json", "llamafactory/dpo_en_demo.json"])
def test_padding_takes_twice_the_places_that_packed_rows_take_on_real_data(name):
    read = read_conversations(INSTRUCTIONS / name, say=print)
    encoded = encode_conversations(read.items[:100], small_tokenizer(), CHATML_TEMPLATE, context_tokens=4096, say=print)
    packed = packed_rows(encoded.examples, row_tokens=4096)
    batches = [encoded.examples[first : first + 8] for first in range(0, len(encoded.examples), 8)]
    padded = sum(padded_batch(batch, pad_id=3)["input_ids"].numel() for batch in batches)
    places = sum(packed_batch([row], pad_id=3)["input_ids"].numel() for row in packed)
    assert places == encoded.num_tokens, "a row alone has no padding"
    assert padded > 1.9 * places
    assert len(packed) * 4096 < 1.05 * places
