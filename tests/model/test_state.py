"""The inference state: taken, put back, copied, cut, and never larger than it says."""

import pytest
import torch

from conformance.models import CONFIGS, base_model, sequences
from mamba_slm.core.errors import ConfigError, UsageError
from mamba_slm.model.state import FIRST_CAPACITY, InferenceState, KeyValueState, MambaState
from tolerances import assert_close, tolerance_of

every_layout = pytest.mark.parametrize("layout", CONFIGS)
TOKENS = sequences((200,))[0]


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def prefilled(layout, t=70, rows=1):
    """A model and a state that read t tokens; rows differ."""
    model = base_model(layout)
    state = model.new_state(rows)
    model(torch.stack([TOKENS.roll(-row)[:t] for row in range(rows)]), state=state)
    return model, state


def tensors(state):
    """Everything a state holds."""
    found = []
    state.mapped(lambda tensor: found.append(tensor) or tensor)
    return found


@every_layout
def test_a_restored_state_gives_the_same_logits_to_the_bit(layout):
    model, state = prefilled(layout)
    snapshot = state.snapshot()
    first = [model(TOKENS[None, i : i + 1], state=state) for i in range(70, 80)]
    model(TOKENS[None, 80:], state=state)  # far beyond the first capacity
    for _ in range(2):  # the snapshot stays usable
        state.restore(snapshot)
        again = [model(TOKENS[None, i : i + 1], state=state) for i in range(70, 80)]
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert int(state.num_tokens) == 80
    assert int(snapshot.num_tokens) == 70


@every_layout
def test_a_snapshot_shares_no_memory_with_its_state(layout):
    model, state = prefilled(layout)
    snapshot = state.snapshot()
    before = [tensor.clone() for tensor in tensors(snapshot)]
    model(TOKENS[None, 70:90], state=state)
    for mine, theirs in zip(tensors(snapshot), tensors(state), strict=True):
        assert mine.data_ptr() != theirs.data_ptr()
    assert all(torch.equal(a, b) for a, b in zip(tensors(snapshot), before, strict=True))


@every_layout
def test_forks_go_their_own_ways_and_put_copies_of_a_row_together(layout):
    model, state = prefilled(layout, rows=2)
    forks = state.fork(3)
    assert forks.batch_size == 6
    assert state.batch_size == 2
    next_tokens = torch.tensor([[1], [2], [3], [1], [2], [3]])
    logits = model(next_tokens, state=forks)
    for row in range(2):
        for copy in range(3):
            alone = state.select(torch.tensor([row]))
            expected = model(torch.tensor([[copy + 1]]), state=alone)
            assert_close(logits[3 * row + copy], expected[0], tolerance_of("model").values)
    assert not torch.equal(logits[0], logits[1])
    assert int(state.num_tokens[0]) == 70


@every_layout
def test_select_reorders_repeats_and_drops_rows(layout):
    _, state = prefilled(layout, rows=3)
    chosen = state.select(torch.tensor([2, 0, 2, 1]))
    for mine, theirs in zip(tensors(chosen), tensors(state), strict=True):
        assert torch.equal(mine, theirs[[2, 0, 2, 1]])
    assert (chosen.length, chosen.has_padding) == (state.length, state.has_padding)


@every_layout
def test_the_memory_reported_is_the_memory_held(layout):
    _, state = prefilled(layout, rows=2)
    held = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors(state)}
    assert state.num_bytes == sum(held.values())
    assert state.fork(2).num_bytes == 2 * state.num_bytes


def test_capacity_doubles_only_when_it_must():
    model = base_model("classic")
    state = model.new_state(1)
    capacities = []
    for i in range(2 * FIRST_CAPACITY + 1):
        model(TOKENS[None, i : i + 1], state=state)
        capacities.append(state.positions.shape[1])
    expected = [FIRST_CAPACITY] * 64 + [2 * FIRST_CAPACITY] * 64 + [4 * FIRST_CAPACITY]
    assert capacities == expected
    caches = [layer for layer in state.layers if isinstance(layer, KeyValueState)]
    assert {cache.keys.shape[2] for cache in caches} == {4 * FIRST_CAPACITY}


def test_a_long_prompt_reserves_what_it_needs_at_once():
    _, state = prefilled("classic", t=190)
    assert state.positions.shape[1] == 190


def test_the_mamba_part_is_constant_in_size_and_float32():
    model = base_model("portable")
    state = model.new_state(1, dtype=torch.bfloat16)
    layers = [layer for layer in state.layers if isinstance(layer, MambaState)]
    size = sum(layer.ssm.numel() + layer.window.numel() for layer in layers)
    model(TOKENS[None], state=state)
    layers = [layer for layer in state.layers if isinstance(layer, MambaState)]
    assert sum(layer.ssm.numel() + layer.window.numel() for layer in layers) == size
    assert all(layer.ssm.dtype == torch.float32 for layer in layers)
    assert all(layer.window.dtype == torch.bfloat16 for layer in layers)
    assert all(layer.keys.dtype == torch.bfloat16 for layer in state.layers if isinstance(layer, KeyValueState))


@every_layout
def test_a_bf16_cache_works_with_float32_weights_and_under_autocast(layout):
    model = base_model(layout)
    expected = model(TOKENS[None, :90])
    states = {"bf16 cache": model.new_state(1, dtype=torch.bfloat16), "autocast": model.new_state(1)}
    for name, state in states.items():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=name == "autocast"):
            pieces = [model(TOKENS[None, :70], state=state)]
            pieces += [model(TOKENS[None, i : i + 1], state=state) for i in range(70, 90)]
        assert_close(torch.cat(pieces, dim=1), expected, tolerance_of("model", torch.bfloat16).values, name)
        assert all(layer.ssm.dtype == torch.float32 for layer in state.layers if isinstance(layer, MambaState))


def test_one_layer_entry_stands_for_each_letter_of_the_pattern():
    kinds = {"M": MambaState, "*": KeyValueState, "-": type(None)}
    for config in CONFIGS.values():
        state = InferenceState.empty(config, 2, device=torch.device("cpu"), dtype=torch.float32)
        assert [type(layer) for layer in state.layers] == [kinds[letter] for letter in config.pattern]


def test_a_snapshot_with_other_rows_is_refused():
    _, state = prefilled("portable", rows=2)
    with pytest.raises(UsageError, match="the snapshot has 4 rows, the state has 2"):
        state.restore(state.fork(2))


@every_layout
def test_a_call_that_failed_leaves_no_trace(layout):
    """A padded call that runs out of context must not hide the tokens of the next one."""
    model = base_model(layout)
    state, clean = model.new_state(2), model.new_state(2)
    tokens, mask = TOKENS[:40].view(2, 20), torch.ones(2, 20, dtype=torch.bool)
    mask[1, :5] = False
    for each in (state, clean):
        model(tokens, padding_mask=mask, state=each)
    too_long = torch.zeros(2, 1020, dtype=torch.int64)
    padding = torch.ones_like(too_long, dtype=torch.bool)
    padding[:, 2:] = False
    with pytest.raises(ConfigError, match="do not fit"):
        model(too_long, padding_mask=padding, state=state)
    later = TOKENS[40:60].view(2, 10)
    assert torch.equal(model(later, state=state), model(later, state=clean))
