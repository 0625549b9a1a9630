"""A state that remembers returns to any cut, and goes on from there as if the rest had never been read."""

import pytest
import torch

from conformance.models import CONFIGS, base_model, sequences
from mamba_slm.core.errors import UsageError
from mamba_slm.model.rollback import can_roll_back, forget, remember, roll_back
from mamba_slm.model.state import InferenceState
from tolerances import assert_close, tolerance_of

TOKENS = sequences((200,))[0]
every_layout = pytest.mark.parametrize("layout", CONFIGS)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def assert_same_state(state: InferenceState, expected: InferenceState) -> None:
    """Same counts, and the same values in all slots that count."""
    assert (state.length, state.num_tokens.tolist()) == (expected.length, expected.num_tokens.tolist())
    for mine, theirs in zip(state.layers, expected.layers, strict=True):
        for name, tensor in vars(theirs).items() if theirs is not None else ():
            if name in ("keys", "values"):
                used = (slice(None), slice(None), slice(0, state.length))
                assert_close(getattr(mine, name)[used], tensor[used], tolerance_of("model").values, name)
            elif name != "history":
                assert_close(getattr(mine, name), tensor, tolerance_of("model").values, name)


@every_layout
def test_a_state_returns_to_every_cut(layout):
    model, first, last = base_model(layout), 5, 75
    expected = []
    plain = model.new_state(1)
    model(TOKENS[None, :first], state=plain)
    for at in range(first, last):
        expected.append(plain.snapshot())
        model(TOKENS[None, at : at + 1], state=plain)
    state = model.new_state(1)
    model(TOKENS[None, :first], state=state)
    remember(state)
    model(TOKENS[None, first : first + 40], state=state)  # a piece, and single tokens
    for at in range(first + 40, last):
        model(TOKENS[None, at : at + 1], state=state)
    for cut in range(last - 1, first - 1, -1):
        roll_back(model, state, 1)
        assert can_roll_back(state) == cut - first or not model.architecture.num_mamba
        assert_same_state(state, expected[cut - first])
    logits = model(TOKENS[None, first:last], state=state)
    assert_close(logits, model(TOKENS[None, :last])[:, first:], tolerance_of("model").values)


@every_layout
@pytest.mark.parametrize("cut", [0, 1, 3, 7, 8])
def test_padded_rows_go_back_by_their_own_tokens(layout, cut):
    model = base_model(layout)
    tokens = TOKENS[:36].view(2, 18)
    mask = torch.ones(2, 8, dtype=torch.bool)
    mask[1, 5:] = False
    expected, state = model.new_state(2), model.new_state(2)
    for each in (expected, state):
        model(tokens[:, :4], state=each)
    remember(state)
    model(tokens[:, 4:12], padding_mask=mask, state=state)
    roll_back(model, state, 8 - cut)
    if cut:
        model(tokens[:, 4 : 4 + cut], padding_mask=mask[:, :cut], state=expected)
    assert_same_state(state, expected)
    after = [model(tokens[:, 12:], state=each) for each in (state, expected)]
    assert_close(after[0], after[1], tolerance_of("model").values)


@every_layout
def test_what_was_forgotten_cannot_be_taken_back_and_nothing_changes(layout):
    model, state = base_model(layout), base_model(layout).new_state(1)
    model(TOKENS[None, :9], state=state)
    with pytest.raises(UsageError, match="cannot go back 1 tokens: the state remembers 0"):
        roll_back(model, state, 1)
    remember(state)
    held = state.num_bytes
    model(TOKENS[None, 9:20], state=state)
    assert state.num_bytes > held
    roll_back(model, state, 4, forget=True)
    with pytest.raises(UsageError, match="remembers 0"):
        roll_back(model, state, 1)
    forget(state)
    clean = model.new_state(1)
    model(TOKENS[None, :16], state=clean)
    assert state.num_bytes == clean.num_bytes
    assert_same_state(state, clean)


def test_attention_alone_remembers_everything():
    model = base_model("attention")
    state = model.new_state(1)
    model(TOKENS[None, :30], state=state)
    roll_back(model, state, 25)
    assert_close(model(TOKENS[None, 5:9], state=state), model(TOKENS[None, :9])[:, 5:], tolerance_of("model").values)
