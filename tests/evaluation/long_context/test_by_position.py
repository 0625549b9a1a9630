"""Promises of the loss by position: every position counts once, and the mean is that of the model."""

import numpy as np
import pytest
import torch

from mamba_slm.core.errors import DataError
from mamba_slm.evaluation.long_context.by_position import borders, long_rows, loss_by_position
from small_models import VOCAB_SIZE, varied_model


def rows(count, size, seed=0):
    return [np.random.default_rng(seed + n).integers(0, VOCAB_SIZE, size) for n in range(count)]


@pytest.mark.parametrize(("trained", "context"), [(64, 256), (48, 49), (100, 1000), (7, 30)])
def test_borders_cover_every_position_once(trained, context):
    found = borders(trained, context)
    assert found[0] == 0 and found[-1] == context
    assert found == sorted(set(found))
    assert trained in found


def test_stretches_add_up_to_the_loss_of_the_model():
    model = varied_model(max_context_tokens=48)
    texts = rows(3, 49)
    stretches = loss_by_position(model, texts, [0, 10, 11, 48])
    tokens = torch.as_tensor(np.stack(texts))
    with torch.no_grad():
        whole = model.loss_sum(tokens[:, :-1], tokens[:, 1:])
    assert sum(one.loss * one.num_tokens for one in stretches) == pytest.approx(float(whole.total), rel=1e-5)
    assert sum(one.num_tokens for one in stretches) == whole.num_targets


def test_a_position_does_not_depend_on_what_follows():
    model = varied_model(max_context_tokens=48)
    text = rows(1, 49)[0]
    changed = text.copy()
    changed[30:] = (changed[30:] + 1) % VOCAB_SIZE
    first, second = (loss_by_position(model, [row], [0, 29, 48]) for row in (text, changed))
    assert first[0].loss == pytest.approx(second[0].loss, rel=1e-6)
    assert first[1].loss != pytest.approx(second[1].loss, rel=1e-6)


def test_rows_come_from_single_documents_where_they_are_long_enough():
    found, how = long_rows([rows(1, 30)[0], rows(1, 100)[0]], context_tokens=48, max_rows=5)
    assert [len(row) for row in found] == [49, 49] and "single documents" in how
    found, how = long_rows(rows(10, 30), context_tokens=48, max_rows=5)
    assert [len(row) for row in found] == [49] * 5 and "joined" in how
    with pytest.raises(DataError, match="the held-out text has 30 tokens"):
        long_rows(rows(1, 30), context_tokens=48, max_rows=5)
