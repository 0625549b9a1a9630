import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError
from mamba_slm.data.packing import NO_TARGET, row_of_parts, rows_end_to_end

LENGTHS = st.lists(st.integers(2, 40), max_size=12)


def numbered(lengths):
    """Documents whose tokens are 0, 1, 2, … through all of them."""
    starts = np.cumsum([0, *lengths])
    return [np.arange(start, start + length) for start, length in zip(starts, lengths, strict=False)]


def rows_of(lengths, context_tokens):
    return list(rows_end_to_end(numbered(lengths), context_tokens=context_tokens))


@given(lengths=LENGTHS, context_tokens=st.integers(1, 50))
def test_no_token_is_lost_or_doubled(lengths, context_tokens):
    rows = rows_of(lengths, context_tokens)
    total = sum(lengths)
    begins = set(np.cumsum([0, *lengths]).tolist())
    targets = [token for row in rows for token in row.targets.tolist() if token != NO_TARGET]
    assert targets == [token for token in range(total) if token not in begins]
    stream = [token for row in rows for token in row.inputs.tolist()][: max(0, total - 1)]
    assert stream == list(range(max(0, total - 1)))


@given(lengths=LENGTHS, context_tokens=st.integers(1, 50))
def test_a_target_is_the_next_token_of_the_same_document(lengths, context_tokens):
    owner = np.repeat(np.arange(len(lengths)), lengths)
    for row in rows_of(lengths, context_tokens):
        assert len(row.inputs) == len(row.targets) == len(row.document_ids) == context_tokens
        counts = row.targets != NO_TARGET
        assert (row.targets[counts] == row.inputs[counts] + 1).all()
        assert (owner[row.targets[counts]] == owner[row.inputs[counts]]).all()


@given(lengths=LENGTHS, context_tokens=st.integers(1, 50))
def test_document_ids_start_at_zero_and_rise_by_one_at_each_border(lengths, context_tokens):
    owner = np.repeat(np.arange(len(lengths)), lengths)
    for row in rows_of(lengths, context_tokens):
        steps = np.diff(row.document_ids)
        assert row.document_ids[0] == 0 and set(steps.tolist()) <= {0, 1}
        real = int((np.diff(row.inputs) == 1).sum()) + 1
        assert (np.diff(owner[row.inputs[:real]]) == steps[: real - 1]).all()


def test_a_worked_example():
    first, second, third = rows_of([5, 3, 2], 4)
    assert first.inputs.tolist() == [0, 1, 2, 3] and first.targets.tolist() == [1, 2, 3, 4]
    assert second.inputs.tolist() == [4, 5, 6, 7] and second.targets.tolist() == [-100, 6, 7, -100]
    assert second.document_ids.tolist() == [0, 1, 1, 1]
    assert third.inputs.tolist() == [8, 9, 9, 9] and third.targets.tolist() == [9, -100, -100, -100]
    assert third.document_ids.tolist() == [0, 0, 1, 1]


def test_parts_lie_side_by_side_and_what_is_left_over_has_no_targets():
    row = row_of_parts([np.array([1, 2, 3]), np.array([7, 8, 9])], 6)
    assert row.inputs.tolist() == [1, 2, 7, 8, 8, 8]
    assert row.targets.tolist() == [2, 3, 8, 9, -100, -100]
    assert row.document_ids.tolist() == [0, 0, 1, 1, 2, 2]
    full = row_of_parts([np.array([1, 2, 3], dtype=np.uint16)], 2)
    assert (full.inputs.tolist(), full.targets.tolist(), full.document_ids.tolist()) == ([1, 2], [2, 3], [0, 0])


def test_rows_have_the_types_that_a_model_takes():
    for row in (rows_of([9], 4)[0], row_of_parts([np.arange(5, dtype="<u2")], 6)):
        assert (row.inputs.dtype, row.targets.dtype, row.document_ids.dtype) == ("int64", "int64", "int32")


def test_a_row_needs_at_least_one_token():
    with pytest.raises(ConfigError, match="context_tokens must be at least 1"):
        next(rows_end_to_end([], context_tokens=0))
