"""Every way of reading covers what it says."""

import numpy as np
import pytest

from export.onnx.onnx_models import sequences
from mamba_slm.export.onnx.readings import DECODED_TOKENS, READINGS, SINGLE_TOKENS, rows_of


def tokens_of(batch, row):
    return [int(token) for tokens, mask in batch.pieces for token in tokens[row][mask[row] == 1]]


@pytest.mark.parametrize("what", READINGS)
def test_a_reading_reads_sequences_from_their_first_token_on(what):
    texts = sequences()
    batches = list(READINGS[what](texts))
    for batch in batches:
        for row, number in enumerate(batch.sequences):
            found = tokens_of(batch, row)
            assert found == texts[number][: len(found)]
    lengths = {number: len(tokens_of(batch, row)) for batch in batches for row, number in enumerate(batch.sequences)}
    assert lengths == ({3: SINGLE_TOKENS} if "one token" in what else {n: len(text) for n, text in enumerate(texts)})


def test_pieces_are_cut_around_chunks_and_single_tokens_are_single():
    widths = {
        what: [[piece[0].shape for piece in batch.pieces] for batch in READINGS[what](sequences())] for what in READINGS
    }
    assert widths["read in pieces"][3] == [(1, 1), (1, 2), (1, 59), (1, 2), (1, 1), (1, 64), (1, 71)]
    assert widths["read one token at a time"] == [[(1, 1)] * SINGLE_TOKENS]
    assert widths["read as a batch padded on the left"] == [[(4, 195), *[(4, 1)] * DECODED_TOKENS]]


def test_padding_stands_on_its_side():
    tokens, mask = rows_of([[1, 2, 3], [4]], "left")
    assert (tokens.tolist(), mask.tolist()) == ([[1, 2, 3], [0, 0, 4]], [[1, 1, 1], [0, 0, 1]])
    assert rows_of([[1, 2, 3], [4]], "right")[1].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert np.array(rows_of([[], [5]], "right", width=1)).tolist() == [[[0], [5]], [[0], [1]]]
