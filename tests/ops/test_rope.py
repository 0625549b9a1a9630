"""Rotary positions: a rotation that depends on distances only, and the three ways to stretch it."""

import math

import pytest
import torch

from mamba_slm.ops.rope import apply_rope, rope_frequencies, rope_tables
from tolerances import assert_close, tolerance_of

HEAD_DIM, THETA = 16, 10_000.0


def rotate(x, positions, **settings):
    frequencies, scale = rope_frequencies(x.shape[-1], theta=THETA, **settings)
    return apply_rope(x, *rope_tables(positions, frequencies, scale))


def test_frequencies_are_a_geometric_series_from_one():
    frequencies, scale = rope_frequencies(HEAD_DIM, theta=THETA)
    expected = torch.tensor([THETA ** (-2 * i / HEAD_DIM) for i in range(HEAD_DIM // 2)])
    assert_close(frequencies, expected, tolerance_of("rope").values)
    assert scale == 1.0


def test_a_rotation_keeps_the_norm_of_every_pair_of_channels():
    x = torch.randn(2, 9, 3, HEAD_DIM)
    y = rotate(x, torch.randint(0, 5000, (2, 9)))
    before, after = (m.unflatten(-1, (2, -1)).norm(dim=-2) for m in (x, y))
    assert_close(after, before, tolerance_of("rope").values)


def test_position_zero_does_nothing():
    x = torch.randn(1, 1, 2, HEAD_DIM)
    assert torch.equal(rotate(x, torch.zeros(1, 1, dtype=torch.int64)), x)


def test_the_first_pair_turns_by_one_radian_per_position():
    x = torch.zeros(1, 3, 1, HEAD_DIM)
    x[..., 0] = 1
    y = rotate(x, torch.tensor([[0, 1, 2]]))
    angles = torch.tensor([0.0, 1.0, 2.0])
    assert_close(y[0, :, 0, 0], angles.cos(), tolerance_of("rope").values)
    assert_close(y[0, :, 0, HEAD_DIM // 2], angles.sin(), tolerance_of("rope").values)


@pytest.mark.parametrize("shift", [1, 100, 4000])
@pytest.mark.parametrize("settings", [{}, {"scaling": "linear", "factor": 4.0}, {"scaling": "ntk", "factor": 4.0}])
def test_scores_depend_on_the_distance_only(shift, settings):
    q, k = torch.randn(1, 5, 1, HEAD_DIM), torch.randn(1, 5, 1, HEAD_DIM)
    positions = torch.tensor([[0, 3, 7, 50, 200]])

    def scores(offset):
        return torch.einsum(
            "bthd,bshd->bhts", rotate(q, positions + offset, **settings), rotate(k, positions + offset, **settings)
        )

    assert_close(scores(shift), scores(0), tolerance_of("rope phase").values)


def test_linear_scaling_squeezes_positions():
    x = torch.randn(1, 4, 2, HEAD_DIM)
    positions = torch.tensor([[0, 4, 40, 400]])
    squeezed = rotate(x, positions, scaling="linear", factor=4.0)
    assert_close(squeezed, rotate(x, positions // 4), tolerance_of("rope phase").values)


def test_ntk_scaling_keeps_the_fastest_and_divides_the_slowest_frequency():
    plain, _ = rope_frequencies(HEAD_DIM, theta=THETA)
    stretched, scale = rope_frequencies(HEAD_DIM, theta=THETA, scaling="ntk", factor=8.0)
    assert stretched[0] == plain[0]
    assert_close(stretched[-1], plain[-1] / 8, tolerance_of("rope").values)
    assert (stretched <= plain).all()
    assert (stretched >= plain / 8 * 0.999).all()
    assert scale == 1.0


@pytest.mark.parametrize(("head_dim", "theta", "context", "factor"), [(64, 1e4, 4096, 4), (128, 5e5, 8192, 16)])
def test_yarn_is_the_formula_of_the_paper(head_dim, theta, context, factor):
    """gamma ramps from 0 to 1 in the number of turns within the context (beta 32 … 1), rounded to whole channels as in
    the authors' code; h(f) = (1 - gamma) f / s + gamma f; temperature 0.1 ln s + 1."""
    frequencies, scale = rope_frequencies(
        head_dim, theta=theta, scaling="yarn", factor=factor, original_context_tokens=context
    )

    def channel_with(turns):
        return head_dim / 2 * math.log(context / (turns * 2 * math.pi)) / math.log(theta)

    low, high = math.floor(channel_with(32)), math.ceil(channel_with(1))
    expected = []
    for i in range(head_dim // 2):
        plain = theta ** (-2 * i / head_dim)
        gamma = 1 - min(max((i - low) / (high - low), 0), 1)
        expected.append((1 - gamma) * plain / factor + gamma * plain)
    assert_close(frequencies, torch.tensor(expected), tolerance_of("rope").values)
    assert scale == pytest.approx(0.1 * math.log(factor) + 1)


def test_yarn_leaves_fast_waves_alone_and_divides_slow_ones():
    plain, _ = rope_frequencies(64, theta=THETA)
    stretched, _ = rope_frequencies(64, theta=THETA, scaling="yarn", factor=4.0, original_context_tokens=4096)
    turns = 4096 * plain / (2 * math.pi)
    assert_close(stretched[turns > 40], plain[turns > 40], tolerance_of("rope").values)
    assert_close(stretched[turns < 0.7], plain[turns < 0.7] / 4, tolerance_of("rope").values)


def test_the_dtype_of_the_input_is_kept_and_the_angles_are_float32():
    positions = torch.tensor([[1000, 1001]])
    x = torch.randn(1, 2, 1, HEAD_DIM).bfloat16()
    y = rotate(x, positions)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, rotate(x.float(), positions).bfloat16())


def test_llama3_keeps_waves_that_turn_four_times_and_divides_those_that_turn_less_than_once():
    plain, _ = rope_frequencies(64, theta=THETA)
    stretched, scale = rope_frequencies(64, theta=THETA, scaling="llama3", factor=8.0, original_context_tokens=4096)
    turns = 4096 * plain / (2 * math.pi)
    assert_close(stretched[turns > 4], plain[turns > 4], tolerance_of("rope").values)
    assert_close(stretched[turns < 1], plain[turns < 1] / 8, tolerance_of("rope").values)
    between = (turns > 1) & (turns < 4)
    assert between.any() and ((stretched < plain) & (stretched > plain / 8))[between].all()
    assert scale == 1.0
