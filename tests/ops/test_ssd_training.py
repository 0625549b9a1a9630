"""Heads too steep for rows to be scaled take another way, alone or beside gentle ones, and nobody notices."""

import pytest
import torch

from mamba_slm.ops import ssd_recompute
from mamba_slm.ops.ssd import ssd_scan
from mamba_slm.ops.ssd_training import pieces_of
from ops.test_ssd import BOUNDARIES, assert_same, documents, random_inputs

RATES = (-16.0, -1.0, -15.0, -2.0, -14.0, -13.0)
"""A of six heads in two groups: some steep and some gentle ones in both."""


@pytest.fixture(params=["every", "some"])
def steep(request, monkeypatch):
    """A function that makes inputs of t positions of which every head counts as steep, or all but two."""

    def inputs(t):
        made = random_inputs(t, h=len(RATES), g=2)
        made[2] = torch.tensor(RATES)
        decays = (made[1] * made[2])[:, : ssd_recompute.FORWARD_CHUNK_SIZE].sum(dim=1).abs().amax(dim=0)  # [h]
        limit = -1.0 if request.param == "every" else float(decays[[1, 3]].max()) * 1.5
        monkeypatch.setattr(ssd_recompute, "STEEPEST", limit)
        found = ssd_recompute.heads_too_steep(made[1], made[2])
        assert found == set(range(6)) if request.param == "every" else t == 1 or found == {0, 2, 4, 5}
        return made

    return inputs


@pytest.mark.parametrize("t", [1, 31, 32, 33, 300])
def test_values_state_and_all_gradients_are_those_of_the_recurrence(steep, t):
    assert_same("recompute", steep(t))


@pytest.mark.parametrize("chunk_size", [1, 16, 48, 64, 256])
def test_the_chunk_size_does_not_change_the_function(steep, chunk_size):
    assert_same("recompute", steep(130), chunk_size=chunk_size)


@pytest.mark.parametrize("lengths", BOUNDARIES.values(), ids=BOUNDARIES)
@pytest.mark.parametrize("with_state", [True, False], ids=["continuing", "fresh"])
def test_document_boundaries_restart_the_state(steep, lengths, with_state):
    assert_same("recompute", steep(sum(lengths)), document_ids=documents(*lengths), with_state=with_state)


@pytest.mark.parametrize("lengths", BOUNDARIES.values(), ids=BOUNDARIES)
def test_a_document_has_exactly_no_gradient_from_another(steep, lengths):
    inputs = steep(sum(lengths))
    start = 0
    for length in lengths:
        leaves = [m.clone().requires_grad_() for m in inputs[:5]]
        y, _ = ssd_scan(*leaves, document_ids=documents(*lengths), chunk_size=64)
        own = slice(start, start + length)
        y[:, own].square().sum().backward()
        for leaf in (leaves[0], leaves[1], leaves[3], leaves[4]):
            assert not leaf.grad[:, :start].any()
            assert not leaf.grad[:, start + length :].any()
        start += length


def test_what_another_document_says_changes_nothing_to_the_bit():
    one, other = random_inputs(130), random_inputs(130, seed=1)
    ids = documents(40, 90)
    for i in (0, 1, 3, 4):
        other[i][:, 40:] = one[i][:, 40:]
    other[2] = one[2]
    results = [ssd_scan(*inputs[:5], document_ids=ids, chunk_size=64)[0][:, 40:] for inputs in (one, other)]
    assert torch.equal(*results)


def test_new_models_have_no_steep_head():
    dt, A = torch.full((1, 64, 16), 0.1), -torch.linspace(1, 16, 16)  # the ends of their ranges, see model/init.py
    assert not ssd_recompute.heads_too_steep(dt, A)
    assert ssd_recompute.heads_too_steep(dt * 6, A) == {4 + i for i in range(12)}


@pytest.mark.parametrize(("t", "q"), [(32, 32), (256, 32), (288, 32), (5, 5)])
def test_pieces_cover_everything_once(t, q):
    covered = [position for piece in pieces_of(t, q) for position in range(t)[piece]]
    assert covered == list(range(t))


def test_a_step_that_is_not_a_number_reaches_the_loss():
    inputs = random_inputs(64)
    inputs[1][0, 20, 0] = torch.nan
    x = inputs[0].requires_grad_()
    y, _ = ssd_scan(x, *inputs[1:5], chunk_size=64)
    assert y[0, 20:, 0].isnan().all()
    assert y[1].isfinite().all()
