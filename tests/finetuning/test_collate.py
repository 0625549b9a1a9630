"""Batches as the wrapper reads them."""

import pytest

from mamba_slm.finetuning.collate import packed_batch, packed_collator, padded_batch, padded_collator
from mamba_slm.finetuning.examples import EncodedExample

A = EncodedExample((5, 6, 7), (False, True, True), "A")
B = EncodedExample((8, 9), (False, True), "B")
PAD, NO = 3, -100


def lists(batch):
    return {name: tensor.tolist() for name, tensor in batch.items()}


def test_packed_rows_say_where_examples_begin_and_what_is_learned():
    assert lists(packed_batch([(A, B), (B,)], pad_id=PAD)) == {
        "input_ids": [[5, 6, 7, 8, 9], [8, 9, PAD, PAD, PAD]],
        "labels": [[NO, 6, 7, NO, 9], [NO, 9, NO, NO, NO]],
        "seq_idx": [[0, 0, 0, 1, 1], [0, 0, 1, 1, 1]],
        "position_ids": [[0, 1, 2, 0, 1], [0, 1, 0, 1, 2]],
    }
    assert lists(packed_collator(PAD)([(A,)])) == lists(packed_batch([(A,)], pad_id=PAD))


@pytest.mark.parametrize(
    ("side", "tokens", "labels", "mask"),
    [("right", [8, 9, PAD], [NO, 9, NO], [1, 1, 0]), ("left", [PAD, 8, 9], [NO, NO, 9], [0, 1, 1])],
)
def test_padding_is_masked_on_either_side(side, tokens, labels, mask):
    assert lists(padded_batch([A, B], pad_id=PAD, side=side)) == {
        "input_ids": [[5, 6, 7], tokens],
        "labels": [[NO, 6, 7], labels],
        "attention_mask": [[1, 1, 1], mask],
    }
    assert lists(padded_collator(PAD)([A, B])) == lists(padded_batch([A, B], pad_id=PAD))
