"""Documents one at a time are the definition with a mask, and are told from all else that a first key can say."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.ops.attention import attention, attention_reference, document_starts
from mamba_slm.ops.attention_by_document import attention_by_document, document_lengths, is_worth_it
from tolerances import assert_close, tolerance_of

TOLERANCE = tolerance_of("attention")


@given(st.lists(st.lists(st.integers(0, 2), min_size=9, max_size=9), min_size=1, max_size=3))
def test_lengths_of_all_rows_come_from_where_documents_start(rows):
    ids = torch.tensor(rows)
    lengths = document_lengths(document_starts(ids))
    runs = []
    for row in rows:
        for before, now in zip([None, *row], row, strict=False):
            if now != before:
                runs.append(0)
            runs[-1] += 1
    assert lengths == runs


@pytest.mark.parametrize(
    "first_key",
    [[[0, 0, 1, 2]], [[0, 1, 1, 0]], [[0, 0, 1, 1]], [[1, 1, 1, 3]]],
    ids=["window", "falls", "begins before its own", "before the row"],
)
def test_what_is_no_document_is_told(first_key):
    assert document_lengths(torch.tensor(first_key)) is None


@pytest.mark.parametrize("heads", [(4, 2), (3, 3), (6, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_rows_are_the_definition_with_their_gradients(heads, dtype):
    h, k = heads
    ids = torch.tensor([[0] * 70 + [1] * 1 + [2] * 25, [0] * 3 + [1] * 93])
    first_key = document_starts(ids)
    lengths = document_lengths(first_key)
    assert lengths == [70, 1, 25, 3, 93]
    assert is_worth_it(len(lengths), (2, 96)), "so that `attention` takes this path"
    leaves = [torch.randn(2, 96, heads, 8).to(dtype).requires_grad_() for heads in (h, k, k)]
    weights = torch.randn(2, 96, h, 8)
    expected = attention_reference(*leaves, first_key=first_key)
    gradients = torch.autograd.grad((expected.float() * weights).sum(), leaves)
    tolerance = tolerance_of("attention", dtype)
    for out in (attention(*leaves, first_key=first_key), attention_by_document(*leaves, lengths)):
        assert out.dtype == dtype
        assert_close(out, expected, tolerance.values)
        for found, wanted in zip(torch.autograd.grad((out.float() * weights).sum(), leaves), gradients, strict=True):
            assert_close(found, wanted, tolerance.gradients)


def test_many_very_short_documents_stay_under_one_mask():
    assert is_worth_it(8, (1, 2048))
    assert not is_worth_it(256, (1, 256))
