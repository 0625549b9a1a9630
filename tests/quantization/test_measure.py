"""Promises of comparing a changed model with the original: exact numbers, every token once, in bounded memory."""

import math

import pytest
import torch

from mamba_slm.core.errors import CheckFailedError, DataError
from mamba_slm.quantization.measure import Reference, predictions
from small_models import VOCAB_SIZE, varied_model

SIZES = (2, 1, 17, 48, 5)


def rows(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(VOCAB_SIZE, (size,), generator=generator) for size in SIZES]


def changed(model, by=0.05):
    other = varied_model()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        other.embedding.weight.add_(torch.randn(other.embedding.weight.shape) * by)
    return other


def test_a_model_beside_itself_loses_nothing():
    found = Reference(varied_model(), rows()).quality_of(varied_model())
    assert found.num_tokens == sum(size - 1 for size in SIZES)
    assert (found.mean_kl, found.argmax_agreement) == (0, 1)
    assert (found.perplexity_change, found.loss_change_error) == (0, 0)


def test_the_numbers_are_those_of_every_row_by_itself():
    torch.manual_seed(0)
    model = varied_model()
    other = changed(model)
    kl, nats, agreeing = [], [], []
    with torch.no_grad():
        for row in rows():
            a, b = (m(row[None])[0, :-1].double().log_softmax(-1) for m in (model, other))
            kl += (a.exp() * (a - b)).sum(-1).tolist()
            nats += (-b.gather(1, row[1:, None])).flatten().tolist()
            agreeing += (a.argmax(-1) == b.argmax(-1)).tolist()
    found = Reference(model, rows()).quality_of(other)
    assert found.mean_kl == pytest.approx(sum(kl) / len(kl), rel=1e-4)
    assert found.argmax_agreement == sum(agreeing) / len(agreeing)
    assert found.perplexity == pytest.approx(math.exp(sum(nats) / len(nats)), rel=1e-5)
    assert found.loss_change_error > 0


def test_rows_beyond_the_memory_are_left_out_and_not_counted():
    reference = Reference(varied_model(), rows(), most_bytes=4 * VOCAB_SIZE * 20)
    assert [len(row) for row in reference.rows] == [2, 17]
    assert reference.quality_of(varied_model()).num_tokens == 17


def test_the_logits_of_many_positions_never_exist_together():
    pieces = list(predictions(varied_model(), rows() * 40))
    assert max(len(logits) for logits, _ in pieces) <= 512
    assert sum(len(targets) for _, targets in pieces) == 40 * sum(size - 1 for size in SIZES)


def test_nothing_to_compare_is_an_error():
    with pytest.raises(DataError, match="no text to compare"):
        Reference(varied_model(), [torch.tensor([3])])


def test_a_damaged_original_is_found():
    model = varied_model()
    with torch.no_grad():
        model.embedding.weight[5] = math.nan
    with pytest.raises(CheckFailedError, match="not finite"):
        Reference(model, rows())


def test_a_model_that_says_nothing_finite_becomes_null_in_json():
    model = varied_model()
    other = changed(model)
    with torch.no_grad():
        other.final_norm.weight.fill_(math.nan)
    found = Reference(model, rows()).quality_of(other).to_dict()
    assert found["perplexity"] is None and found["mean_kl"] is None
