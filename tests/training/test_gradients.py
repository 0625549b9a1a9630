import dataclasses
import itertools

import pytest
import torch

from mamba_slm.core.errors import DataError
from mamba_slm.data.packing import NO_TARGET
from mamba_slm.model.init import build_model
from mamba_slm.training.gradients import accumulate_gradients, clip_gradients, micro_batches, on_device
from mamba_slm.training.precision import Precision
from tolerances import TOLERANCES, error_between
from training.small_run import TINY

TOLERANCE = TOLERANCES["model", "float32"]


def gradients(batch, rows_at_once):
    model = build_model(TINY, seed=3)
    precision = Precision("fp32", "cpu")
    loss = accumulate_gradients(model, batch, rows_at_once=rows_at_once, precision=precision, device="cpu")
    return torch.tensor(loss), [parameter.grad for parameter in model.parameters()]


def uneven(batch):
    """The same batch with almost no targets in its first row."""
    targets = batch.targets.copy()
    targets[0, 2:] = NO_TARGET
    return dataclasses.replace(batch, targets=targets)


@pytest.mark.parametrize("rows_at_once", [1, 2, 3])
@pytest.mark.parametrize("change", [lambda batch: batch, uneven], ids=["even", "uneven"])
def test_accumulation_gives_the_gradients_of_the_whole_batch(batch, rows_at_once, change):
    batch = change(batch)
    whole_loss, whole = gradients(batch, rows_at_once=4)
    loss, parts = gradients(batch, rows_at_once)
    assert error_between(loss, whole_loss) <= TOLERANCE.values
    for part, expected in zip(parts, whole, strict=True):
        assert error_between(part, expected) <= TOLERANCE.gradients


def test_every_target_weighs_the_same_whatever_else_is_in_its_row(batch):
    """Averaging the means of micro-batches, the usual mistake, is far off on this batch."""
    batch = uneven(batch)
    loss, _ = gradients(batch, rows_at_once=1)
    model = build_model(TINY, seed=3)
    sums = []
    for rows in micro_batches(batch, 1):
        inputs, targets, documents = on_device(batch, rows, "cpu")
        sums.append(model.loss_sum(inputs, targets, document_ids=documents))
    by_token = sum(part.total for part in sums) / sum(part.num_targets for part in sums)
    by_row = sum(part.total / part.num_targets for part in sums) / len(sums)
    assert error_between(loss, by_token) <= TOLERANCE.values
    assert error_between(loss, by_row) > 100 * TOLERANCE.values


def test_micro_batches_cover_every_row_once(batch):
    for rows_at_once in range(1, 6):
        covered = [range(4)[rows] for rows in micro_batches(batch, rows_at_once)]
        assert list(itertools.chain.from_iterable(covered)) == [0, 1, 2, 3]
        assert all(len(part) <= rows_at_once for part in covered)


def test_a_batch_without_targets_is_refused(batch):
    empty = dataclasses.replace(batch, targets=batch.targets * 0 + NO_TARGET)
    with pytest.raises(DataError):
        gradients(empty, rows_at_once=4)


def parameter_with_gradient(values):
    parameter = torch.nn.Parameter(torch.zeros(len(values)))
    parameter.grad = torch.tensor(values)
    return parameter


def test_clipping_reports_the_norm_before_and_never_lengthens_a_gradient():
    parameter = parameter_with_gradient([3.0, 4.0])
    assert clip_gradients([parameter], 1.0) == pytest.approx(5.0)
    assert parameter.grad.norm().item() == pytest.approx(1.0, rel=1e-4)
    assert clip_gradients([parameter], 10.0) == pytest.approx(1.0, rel=1e-4)
    assert parameter.grad.norm().item() == pytest.approx(1.0, rel=1e-4)


def test_a_clip_norm_of_zero_means_never():
    parameter = parameter_with_gradient([3.0, 4.0])
    assert clip_gradients([parameter], 0.0) == pytest.approx(5.0)
    assert parameter.grad.tolist() == [3.0, 4.0]
