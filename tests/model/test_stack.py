"""The model's calls: what they refuse, what they count, and every kind of position."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from conformance.models import CONFIGS, base_model, fresh_model, sequences
from conformance.paths import forked_and_restored, in_pieces, packed, padded
from conformance.probes import TensorSizes, poisoned_memory
from mamba_slm.core.errors import ConfigError, UsageError
from mamba_slm.model.init import build_model
from tolerances import assert_close, error_between, tolerance_of

every_layout = pytest.mark.parametrize("layout", CONFIGS)
ALLOWED = tolerance_of("model").values
TOKENS = sequences((100,))[0]
VARIANTS = {
    "nope": {"position": "nope"},
    "alibi": {"position": "alibi"},
    "learned": {"position": "learned"},
    "window": {"attention_window": 7},
    "window and alibi": {"position": "alibi", "attention_window": 7},
    "linear": {"rope_scaling": "linear", "rope_scaling_factor": 4.0},
    "ntk": {"rope_scaling": "ntk", "rope_scaling_factor": 4.0},
    "yarn": {"rope_scaling": "yarn", "rope_scaling_factor": 4.0},
    "llama3": {"rope_scaling": "llama3", "rope_scaling_factor": 4.0},
    "two taps": {"conv_kernel": 2},
    "as many groups as heads": {"num_groups": 8},
    "one key-value head": {"num_kv_heads": 1},
    "attention first": {"pattern": "*-M-"},
    "feed-forward first": {"pattern": "-M*"},
    "attention only": {"pattern": "*-*-"},
    "mamba only": {"pattern": "MM"},
}


def variant(name):
    """A small model with one setting changed, and weights large enough that it matters."""
    model = build_model(replace(CONFIGS["classic"], **VARIANTS[name]), seed=8).eval()
    with torch.no_grad():
        model.embedding.weight.mul_(20)
        if model.position_embedding is not None:
            model.position_embedding.weight.mul_(20)
    return model


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_computes_the_same_function_on_every_path(name):
    model = variant(name)
    rows = [TOKENS, TOKENS[5:45], TOKENS[50:53]]
    with torch.no_grad():
        expected = [model(row[None])[0] for row in rows]
        found = {
            "pieces": [in_pieces(model, row, (1, 40, 41, 70)) for row in rows],
            "token by token": [in_pieces(model, row, range(len(row))) for row in rows],
            "left": padded(model, rows, "left"),
            "right": padded(model, rows, "right"),
            "packed": packed(model, rows),
            "forked": forked_and_restored(model, rows),
        }
    for path, logits in found.items():
        for a, b in zip(logits, expected, strict=True):
            assert_close(a, b, ALLOWED, path)


@pytest.mark.parametrize("name", [name for name, settings in VARIANTS.items() if "pattern" not in settings])
def test_every_setting_changes_the_function(name):
    if name in ("two taps", "as many groups as heads", "one key-value head"):
        return  # they change the shapes of the weights
    model, plain = variant(name), build_model(CONFIGS["classic"], seed=8).eval()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("position")})
    with torch.no_grad():
        assert error_between(model(TOKENS[None]), plain(TOKENS[None])) > 100 * ALLOWED


def test_a_window_forgets_what_lies_further_back():
    model = build_model(replace(CONFIGS["classic"], pattern="*-", attention_window=7), seed=8)
    other = TOKENS.clone()
    other[:20] = (other[:20] + 1) % 61
    with torch.no_grad():
        assert torch.equal(model(TOKENS[None])[0, 26:], model(other[None])[0, 26:])
        assert not torch.equal(model(TOKENS[None])[0, 25], model(other[None])[0, 25])


@pytest.mark.parametrize("state", [False, True], ids=["plain", "state"])
def test_a_context_longer_than_the_models_is_refused(state):
    model = build_model(replace(CONFIGS["portable"], max_context_tokens=16, position="learned"))
    state = model.new_state(1) if state else None
    with pytest.raises(ConfigError, match="17 tokens do not fit into the model's context of 16") as caught:
        model(TOKENS[None, :17], state=state)
    assert "max_context_tokens" in caught.value.hint


def test_a_state_may_be_filled_to_the_last_token_and_no_further():
    model = build_model(replace(CONFIGS["portable"], max_context_tokens=16, position="learned"))
    state = model.new_state(1)
    with torch.no_grad():
        model(TOKENS[None, :10], state=state)
        with pytest.raises(ConfigError, match="17 tokens"):
            model(TOKENS[None, 10:17], state=state)
        for i in range(10, 16):
            model(TOKENS[None, i : i + 1], state=state)
        with pytest.raises(ConfigError, match="17 tokens"):
            model(TOKENS[None, 16:17], state=state)
        assert int(state.num_tokens) == 16


def test_padding_does_not_use_up_the_context():
    model = build_model(replace(CONFIGS["portable"], max_context_tokens=16, position="learned"))
    state = model.new_state(2)
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[:, :6] = False
    with torch.no_grad():
        model(TOKENS[:24].view(2, 12), padding_mask=mask, state=state)
        logits = model(TOKENS[24:44].view(2, 10), state=state)
        expected = model(torch.cat([TOKENS[6:12], TOKENS[24:34]])[None])
    assert state.num_tokens.tolist() == [16, 16]
    assert_close(logits[0], expected[0, 6:], ALLOWED)


def masked(*rows):
    return torch.tensor([[character == "x" for character in row] for row in rows])


@pytest.mark.parametrize(
    ("mask", "row"),
    [(masked("xxxx", "x.xx"), 1), (masked(".x.x", "xxxx"), 0), (masked("xxxx", "xxxx", "x..x"), 2)],
)
def test_padding_between_the_tokens_is_refused(mask, row):
    with pytest.raises(UsageError, match=f"row {row}: padding may stand before and after the tokens"):
        base_model("portable")(torch.zeros(mask.shape, dtype=torch.int64), padding_mask=mask)


@every_layout
def test_padding_may_stand_on_both_sides_and_a_state_may_follow(layout):
    model = base_model(layout)
    state = model.new_state(2)
    with torch.no_grad():
        expected = model(TOKENS[None, :40])[0]
        tokens = torch.zeros(2, 40, dtype=torch.int64)
        mask = torch.zeros(2, 40, dtype=torch.bool)
        for row, (left, length) in enumerate(((7, 20), (30, 2))):
            tokens[row, left : left + length] = TOKENS[:length]
            mask[row, left : left + length] = True
        logits = model(tokens, padding_mask=mask, state=state)
        later = model(torch.stack([TOKENS[20:30], TOKENS[2:12]]), state=state)
    assert_close(torch.cat([logits[0][mask[0]], later[0]]), expected[:30], ALLOWED)
    assert_close(torch.cat([logits[1][mask[1]], later[1]]), expected[:12], ALLOWED)


def test_when_a_state_continues_padding_on_the_left_is_refused():
    model = base_model("portable")
    state = model.new_state(2)
    with torch.no_grad():
        model(torch.zeros(2, 3, dtype=torch.int64), state=state)
        with pytest.raises(UsageError, match="row 1: padding may stand only to the right"):
            model(torch.zeros(2, 4, dtype=torch.int64), padding_mask=masked("xxxx", ".xxx"), state=state)
        model(torch.zeros(2, 4, dtype=torch.int64), padding_mask=masked("xx..", "...."), state=state)
    assert state.num_tokens.tolist() == [5, 3]


def test_shapes_that_disagree_are_named():
    model = base_model("portable")
    tokens = torch.zeros(2, 5, dtype=torch.int64)
    with pytest.raises(UsageError, match=r"padding_mask has shape \(2, 4\), tokens have \(2, 5\)"):
        model(tokens, padding_mask=masked("xxxx", "xxxx"))
    with pytest.raises(UsageError, match=r"document_ids has shape \(1, 5\), tokens have \(2, 5\)"):
        model(tokens, document_ids=tokens[:1])
    with pytest.raises(UsageError, match="the state has 1 rows, tokens have 2"):
        model(tokens, state=model.new_state(1))
    with pytest.raises(UsageError, match="packed documents cannot be combined with an inference state"):
        model(tokens, document_ids=tokens, state=model.new_state(2))
    with pytest.raises(UsageError, match="no tokens"):
        model(tokens[:, :0])


@every_layout
def test_the_last_position_alone_is_the_last_of_all(layout):
    model = base_model(layout)
    with torch.no_grad():
        assert_close(model(TOKENS[None], last_only=True), model(TOKENS[None])[:, -1:], ALLOWED)
    assert model(TOKENS[None], last_only=True).shape == (1, 1, model.config.vocab_size)


@pytest.mark.parametrize("position", ["rope", "nope", "alibi"])
@pytest.mark.parametrize("pattern", ["*-M-", "M-*-", "M*", "*M", "--", "M-*--"])
@torch.no_grad()
def test_the_last_position_alone_leaves_the_same_state_and_sees_the_same_keys(pattern, position):
    settings = {"pattern": pattern, "position": position, "attention_window": 40, "num_groups": 1}
    model = build_model(replace(base_model("portable").config, **settings), seed=3)
    tokens = TOKENS[:60].view(2, 30)
    mask = masked("....xxxxxxxxxxxxxxxxxxxxxxxxxx", "x" * 30)
    states = [model.new_state(2), model.new_state(2)]
    for piece, piece_mask in ((tokens, mask), (tokens[:, :13], None), (tokens[:, :1], None)):
        alone = model(piece, padding_mask=piece_mask, state=states[0], last_only=True)
        assert_close(alone, model(piece, padding_mask=piece_mask, state=states[1])[:, -1:], ALLOWED)
    assert alone.abs().max() > 0.1


@every_layout
@pytest.mark.parametrize("chunk_tokens", [7, 1024])
def test_the_loss_is_the_cross_entropy_of_the_logits_with_its_gradients(layout, chunk_tokens):
    inputs, targets = TOKENS[:-1].view(3, 33), TOKENS[1:].view(3, 33).clone()
    targets[0, :10] = -100
    ids = (torch.arange(33) >= 20).long().expand(3, -1)
    model, plain = fresh_model(layout), fresh_model(layout)
    loss = model.loss(inputs, targets, document_ids=ids, chunk_tokens=chunk_tokens)
    expected = F.cross_entropy(plain(inputs, document_ids=ids).flatten(0, 1), targets.flatten())
    loss.backward()
    expected.backward()
    assert_close(loss, expected, tolerance_of("loss").values)
    for (name, a), b in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert_close(a.grad, b.grad, tolerance_of("model").gradients, name)


def test_loss_sums_add_up_over_micro_batches():
    model = base_model("portable")
    inputs, targets = TOKENS[:-1].view(3, 33), TOKENS[1:].view(3, 33).clone()
    targets[1, 4:] = -100
    with torch.no_grad():
        whole = model.loss_sum(inputs, targets)
        parts = [model.loss_sum(inputs[i : i + 1], targets[i : i + 1]) for i in range(3)]
    assert whole.num_targets == sum(part.num_targets for part in parts) == 33 + 4 + 33
    assert_close(sum(part.total for part in parts), whole.total, tolerance_of("loss").values)


def test_where_no_target_counts_the_loss_is_zero_and_so_are_the_gradients():
    model = fresh_model("portable")
    loss = model.loss(TOKENS[None], torch.full((1, 100), -100))
    loss.backward()
    assert loss == 0
    assert not any(parameter.grad.any() for parameter in model.parameters())


def test_training_never_holds_the_logits_of_all_tokens():
    model = build_model(replace(CONFIGS["portable"], vocab_size=4096, chunk_size=16), seed=1)
    tokens = torch.randint(0, 4096, (2, 129))
    with TensorSizes() as sizes:
        model.loss(tokens[:, :-1], tokens[:, 1:], chunk_tokens=32).backward()
    assert sizes.largest <= 4096 * 32  # the embedding, and 32 rows of logits; all would be 2 * 128 * 4096


@every_layout
def test_gradient_checkpointing_and_a_state_do_not_disturb_each_other(layout):
    model = fresh_model(layout)
    with torch.no_grad():
        expected = model(TOKENS[None])
    model.gradient_checkpointing = True
    state = model.new_state(1)
    found = torch.cat([model(TOKENS[None, :60], state=state), model(TOKENS[None, 60:], state=state)], dim=1)
    assert int(state.num_tokens) == 100
    assert_close(found, expected, ALLOWED)


def test_gradient_checkpointing_keeps_less_for_the_backward_pass():
    held = {}
    for checkpointed in (False, True):
        model = fresh_model("classic")
        model.gradient_checkpointing = checkpointed
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda m, saved=saved: saved.append(m.numel()) or m, lambda m: m):
            model(TOKENS[None])
        held[checkpointed] = sum(saved)
    assert held[True] < held[False] / 3


@every_layout
def test_uninitialised_memory_is_never_read(layout):
    with poisoned_memory():
        model = fresh_model(layout)
        assert model.loss(TOKENS[None, :-1], TOKENS[None, 1:]).backward() is None
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
        with torch.no_grad():
            assert in_pieces(model, TOKENS, (1, 50, 51)).isfinite().all()


@every_layout
def test_logits_are_float32_in_every_precision(layout):
    model = fresh_model(layout)
    with torch.no_grad():
        assert model(TOKENS[None]).dtype == torch.float32
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert model(TOKENS[None]).dtype == torch.float32


def test_a_large_batch_of_one_token_rows_is_no_exception():
    model = base_model("classic")
    tokens = torch.arange(61)[:, None]
    with torch.no_grad():
        together, alone = model(tokens), torch.cat([model(tokens[i : i + 1]) for i in range(0, 61, 20)])
    assert_close(together[::20], alone, ALLOWED)
    assert math.isfinite(float(together.sum()))
