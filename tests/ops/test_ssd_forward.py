"""The scan without gradients is the recurrence, for heads that forget slowly and for those that forget at once."""

import pytest
import torch

from conformance.probes import TensorSizes, poisoned_memory
from mamba_slm.ops import ssd_recompute as recompute_module
from mamba_slm.ops.ssd import ssd_scan
from mamba_slm.ops.ssd_forward import CHUNKS_AT_ONCE, FORWARD_CHUNK_SIZE, STEEPEST, scan_forward
from mamba_slm.ops.ssd_reference import ssd_reference
from tolerances import assert_close, tolerance_of

Q = FORWARD_CHUNK_SIZE
PIECE = Q * CHUNKS_AT_ONCE


def random_inputs(t, *, b=1, h=4, p=8, g=1, n=16, seed=0):
    """x, dt, A, B, C and an initial state; all heads are gentle."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    steps = torch.empty(b, t, h).uniform_(0.001, 0.1, generator=generator)
    decay_rates = -torch.empty(h).uniform_(0.5, 16, generator=generator)
    return [normal(b, t, h, p), steps, decay_rates, normal(b, t, g, n), normal(b, t, g, n), normal(b, h, p, n)]


def assert_is_the_recurrence(inputs, *, row="ssd", with_state=True):
    tensors, state = inputs[:5], inputs[5] if with_state else None
    y, end = scan_forward(*tensors, state=state)
    y_ref, end_ref = ssd_reference(*tensors, state=state)
    assert_close(y, y_ref, tolerance_of(row).values, "y")
    assert_close(end, end_ref, tolerance_of(row).values, "final state")


@pytest.mark.parametrize("with_state", [True, False], ids=["continuing", "fresh"])
@pytest.mark.parametrize("b", [1, 3])
@pytest.mark.parametrize("t", [1, 2, Q - 1, Q, Q + 1, PIECE, PIECE + 1, 2 * PIECE + Q + 5])
def test_every_length_and_batch_is_the_recurrence(t, b, with_state):
    with poisoned_memory():
        assert_is_the_recurrence(random_inputs(t, b=b), with_state=with_state)


@pytest.mark.parametrize("b", [1, 2])
@pytest.mark.parametrize(("g", "h"), [(1, 1), (2, 6), (3, 6), (4, 4)])
def test_head_i_uses_group_i_divided_by_heads_per_group(g, h, b):
    assert_is_the_recurrence(random_inputs(PIECE + 9, b=b, g=g, h=h))


@pytest.mark.parametrize(("b", "g"), [(1, 1), (2, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("steep", [(0,), (1, 2), (3,), (0, 1, 2, 3)], ids=str)
def test_steep_heads_beside_gentle_ones_are_the_recurrence(steep, b, g):
    inputs = random_inputs(2 * PIECE + 7, b=b, g=g)
    inputs[2][list(steep)] = -60.0
    decay = (inputs[1] * inputs[2]).sum(dim=1)
    assert ((decay < -STEEPEST * (2 * PIECE + 7) / Q) == torch.isin(torch.arange(4), torch.tensor(steep))).all()
    with poisoned_memory():
        assert_is_the_recurrence(inputs)


def test_a_head_that_is_steep_in_one_chunk_of_one_row_is_the_recurrence():
    inputs = random_inputs(PIECE + 9, b=2)
    inputs[2][1] = -8.0
    inputs[1][1, Q + 3 : Q + 9, 1] = 3.0
    assert_is_the_recurrence(inputs)


@pytest.mark.parametrize("below", [True, False], ids=["just gentle", "just steep"])
def test_the_steepest_gentle_head_is_as_exact(below):
    inputs = random_inputs(PIECE)
    inputs[1].fill_(STEEPEST / Q * (0.999 if below else 1.001))
    inputs[2].fill_(-1.0)
    assert_is_the_recurrence(inputs)


def test_a_step_that_forgets_everything_leaves_no_trace_of_what_was_before():
    x, dt, A, B, C, state = random_inputs(Q + 20)
    dt[:, 40] = 1000.0
    _, end = scan_forward(x, dt, A, B, C, state)
    other, _ = scan_forward(x, dt, A, B, C, 1000 * state)
    _, end_ref = ssd_reference(x[:, 40:], dt[:, 40:], A, B[:, 40:], C[:, 40:])
    assert other.isfinite().all()
    assert_close(end, end_ref, tolerance_of("ssd after a large step").values)


@pytest.mark.parametrize("padding", [1, 40, 2 * Q])
def test_positions_with_dt_zero_change_nothing(padding):
    x, dt, A, B, C, state = random_inputs(90)
    noise = random_inputs(padding, seed=5)
    y_ref, end_ref = ssd_reference(x, dt, A, B, C, state=state)
    xp, Bp, Cp = (torch.cat([noise[i], m], dim=1) for i, m in ((0, x), (3, B), (4, C)))
    y, end = scan_forward(xp, torch.cat([torch.zeros_like(noise[1]), dt], dim=1), A, Bp, Cp, state)
    assert_close(y[:, padding:], y_ref, tolerance_of("ssd").values)
    assert_close(end, end_ref, tolerance_of("ssd").values)


def test_memory_grows_linearly_and_no_tensor_is_larger_than_the_result():
    largest = {}
    for t in (2 * PIECE, 4 * PIECE):
        inputs = random_inputs(t)
        with TensorSizes() as sizes:
            scan_forward(*inputs)
        largest[t] = sizes.largest
    assert largest[4 * PIECE] <= inputs[0].numel()


def test_it_is_what_the_automatic_scan_does_without_gradients_and_documents(monkeypatch):
    calls = []

    def counted(*inputs):
        calls.append(1)
        return scan_forward(*inputs)

    monkeypatch.setattr(recompute_module, "scan_forward", counted)
    x, dt, A, B, C, state = random_inputs(70)
    wanted = x.clone().requires_grad_()

    def scan(x, **settings):
        ssd_scan(x, dt, A, B, C, state=state, chunk_size=64, backend="recompute", **settings)
        return len(calls)

    assert scan(wanted) == 0
    assert scan(x, document_ids=torch.zeros(1, 70, dtype=torch.int64)) == 0
    assert scan(x) == 1
    with torch.no_grad():
        assert scan(wanted) == 2
