import math

from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.training.spikes import LARGEST_RISE, LEARNING_STEPS, SMALLEST_JUMP, SpikeDetector


def falling_losses(n):
    return [2 + 6 * math.exp(-step / 30) + 0.05 * math.sin(1.7 * step) for step in range(n)]


def test_an_ordinary_run_has_no_spikes():
    detector = SpikeDetector(sigmas=6)
    assert not any(detector.update(step, loss) for step, loss in enumerate(falling_losses(1000)))


def test_a_jump_is_a_spike_until_the_loss_is_back():
    detector = SpikeDetector(sigmas=6)
    for step, loss in enumerate(falling_losses(300)):
        detector.update(step, loss)
    assert [detector.update(300 + i, loss) for i, loss in enumerate([6.0, 5.0, 2.0])] == [True, True, False]
    assert detector.spike_start is None


def test_a_loss_that_stays_high_stays_a_spike_and_its_start_is_known():
    detector = SpikeDetector(sigmas=6)
    for step, loss in enumerate(falling_losses(300)):
        detector.update(step, loss)
    assert all(detector.update(step, 7.0) for step in range(300, 500))
    assert detector.spike_start == 300


@given(st.floats(0, 20), st.lists(st.floats(0, 1), max_size=LEARNING_STEPS - 1))
def test_while_the_detector_learns_nothing_up_to_a_little_above_the_first_loss_is_a_spike(first, shares):
    detector = SpikeDetector(sigmas=6)
    losses = [first, *(share * (first + LARGEST_RISE) for share in shares)]
    assert not any(detector.update(step, loss) for step, loss in enumerate(losses))


def test_a_rate_that_is_far_too_high_is_noticed_in_the_first_steps():
    detector = SpikeDetector(sigmas=6)
    assert [detector.update(step, loss) for step, loss in enumerate([8.4, 8.3, 40.0, 1454.0, 300.0])] == [
        False, False, True, True, True,
    ]  # fmt: skip
    assert detector.spike_start == 2


def test_the_state_of_a_version_that_kept_no_first_loss_is_read():
    detector = SpikeDetector(sigmas=6)
    detector.load_state_dict({"mean": 5.0, "variance": 1.0, "steps": 3, "spike_start": None})
    assert not detector.update(4, 500.0)


def test_a_quiet_run_does_not_make_small_jumps_spikes():
    detector = SpikeDetector(sigmas=6)
    for step in range(100):
        detector.update(step, 2.0)
    assert not detector.update(100, 2.0 + 0.9 * SMALLEST_JUMP)
    assert detector.update(101, 2.5)


@given(st.lists(st.floats(0, 20), min_size=1, max_size=60), st.integers(0, 59))
def test_the_state_of_a_detector_can_be_saved_anywhere(losses, cut):
    whole, first, second = (SpikeDetector(sigmas=3) for _ in range(3))
    expected = [whole.update(step, loss) for step, loss in enumerate(losses)]
    found = [first.update(step, loss) for step, loss in enumerate(losses[:cut])]
    second.load_state_dict(first.state_dict())
    found += [second.update(cut + step, loss) for step, loss in enumerate(losses[cut:])]
    assert found == expected
    assert second == whole
