"""Any way to cut, pad or pack: drawn at random, smallest failing example shown."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.measure import definition
from conformance.models import CONFIGS, base_model, fresh_model, sequences
from conformance.paths import continued_with_padding, in_pieces, packed, padded
from tolerances import assert_close, tolerance_of

ALLOWED = tolerance_of("model").values
T = 150
EXAMPLES = settings(max_examples=10, deadline=None, derandomize=True, database=None)
every_layout = pytest.mark.parametrize("layout", CONFIGS)


def expected(layout, tokens):
    """Logits of one sequence on the naive recurrence."""
    with torch.no_grad():
        return fresh_model(layout, scan_backend="reference")(tokens[None])[0]


@every_layout
@EXAMPLES
@given(cuts=st.sets(st.integers(1, T - 1), max_size=6))
def test_a_prompt_may_be_cut_anywhere(layout, cuts):
    tokens = sequences()[4][:T]
    with torch.no_grad():
        found = in_pieces(base_model(layout), tokens, sorted(cuts))
    assert_close(found, definition(layout).logits[4][:T], ALLOWED)  # causal: a prefix has the same logits


@st.composite
def pieces_of_rows(draw):
    """Per row its number of tokens in each piece; no piece is empty in all rows."""
    rows, pieces = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    lengths = [[draw(st.integers(0, 70)) for _ in range(pieces)] for _ in range(rows)]
    lengths[0] = [max(1, n) for n in lengths[0]]
    return lengths


@every_layout
@EXAMPLES
@given(lengths=pieces_of_rows(), side=st.sampled_from(["left", "right"]))
def test_a_batch_may_continue_with_any_number_of_tokens_per_row(layout, lengths, side):
    tokens = [sequences((280, 281, 282))[row][: sum(row_lengths)] for row, row_lengths in enumerate(lengths)]
    with torch.no_grad():
        found = continued_with_padding(base_model(layout), tokens, lengths, first_side=side)
    for row, logits in zip(tokens, found, strict=True):
        if len(row):
            assert_close(logits, expected(layout, row), ALLOWED)


@every_layout
@EXAMPLES
@given(lengths=st.lists(st.integers(1, 70), min_size=1, max_size=8))
def test_documents_of_any_lengths_may_be_packed(layout, lengths):
    documents = [sequences()[4][3 * i : 3 * i + length] for i, length in enumerate(lengths)]
    with torch.no_grad():
        found = packed(base_model(layout), documents)
    for document, logits in zip(documents, found, strict=True):
        assert_close(logits, expected(layout, document), ALLOWED)


@every_layout
@EXAMPLES
@given(lengths=st.lists(st.integers(1, 70), min_size=1, max_size=4), side=st.sampled_from(["left", "right"]))
def test_a_batch_may_be_padded_on_either_side(layout, lengths, side):
    rows = [sequences()[4][3 * i : 3 * i + length] for i, length in enumerate(lengths)]
    with torch.no_grad():
        found = padded(base_model(layout), rows, side)
    for row, logits in zip(rows, found, strict=True):
        assert_close(logits, expected(layout, row), ALLOWED)
