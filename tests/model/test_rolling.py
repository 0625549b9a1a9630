"""A window of attention: what no token will see is dropped, and nothing else changes."""

import dataclasses

import pytest
import torch

from mamba_slm.model.init import build_model
from mamba_slm.model.rollback import can_roll_back, remember, roll_back
from mamba_slm.model.state import FIRST_CAPACITY
from small_models import varied_model
from tolerances import assert_close, tolerance_of

WINDOW = 20


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def windowed(pattern="M-*-M-", **changes):
    base = varied_model().config
    config = dataclasses.replace(base, pattern=pattern, attention_window=WINDOW, max_context_tokens=4096, **changes)
    return build_model(config, seed=1)


def tokens(rows, count, seed=0):
    return torch.randint(0, 300, (rows, count), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("position", ["rope", "nope", "alibi"])
@pytest.mark.parametrize("pieces", [[1] * 400, [250, 3, 147], [30] * 13 + [10]], ids=["one by one", "few", "many"])
def test_a_long_text_in_pieces_has_the_logits_of_one_reading_and_a_small_cache(position, pieces):
    model = windowed(position=position)
    text = tokens(1, 400)
    state = model.new_state(1)
    found = torch.cat([model(piece, state=state) for piece in text.split(pieces, dim=1)], dim=1)
    assert_close(found, model(text), tolerance_of("model").values)
    assert state.dropped > 0
    assert state.length + state.dropped == 400
    assert state.positions.shape[1] <= max(2 * FIRST_CAPACITY, 4 * WINDOW, max(pieces) + 2 * WINDOW)


def test_rows_of_different_lengths_keep_what_each_of_them_sees():
    model = windowed()
    lengths = [190, 120]
    text = tokens(2, 300)
    mask = torch.arange(190) < torch.tensor(lengths)[:, None]
    state = model.new_state(2)
    for piece, real in zip(text[:, :190].split(50, dim=1), mask.split(50, dim=1), strict=True):
        model(piece, padding_mask=real, state=state)
    after = torch.cat([model(text[:, at : at + 1], state=state) for at in range(190, 300)], dim=1)
    assert state.dropped > 0
    for row, length in enumerate(lengths):
        alone = torch.cat([text[row, :length], text[row, 190:]])[None]
        assert_close(after[row], model(alone)[0, length:], tolerance_of("model").values)


def test_copies_of_a_state_drop_for_themselves():
    model = windowed()
    text = tokens(1, 300)
    state = model.new_state(1)
    model(text[:, :100], state=state)
    copy = state.snapshot()
    for at in range(100, 300):
        model(text[:, at : at + 1], state=state)
    assert copy.num_tokens.tolist() == [100]
    found = torch.cat([model(text[:, at : at + 1], state=copy) for at in range(100, 300)], dim=1)
    assert_close(found, model(text)[:, 100:], tolerance_of("model").values)
    state.restore(copy)
    assert state.dropped == copy.dropped


@pytest.mark.parametrize("pattern", ["M-*-M-", "*-*-"])
def test_the_way_back_is_never_dropped(pattern):
    model = windowed(pattern=pattern)
    text = tokens(1, 400)
    state = model.new_state(1)
    for at in range(150):
        model(text[:, at : at + 1], state=state)
    remember(state)
    for at in range(150, 400):
        model(text[:, at : at + 1], state=state)
    back = min(can_roll_back(state), 250)
    assert back > 0
    roll_back(model, state, back)
    found = model(text[:, 400 - back :], state=state)
    assert_close(found, model(text)[:, 400 - back :], tolerance_of("model").values)


def test_a_model_without_a_window_keeps_everything():
    model = varied_model(max_context_tokens=400)
    state = model.new_state(1)
    for piece in tokens(1, 300).split(30, dim=1):
        model(piece, state=state)
    assert (state.dropped, state.length) == (0, 300)
