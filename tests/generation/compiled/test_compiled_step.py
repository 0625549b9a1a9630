"""The compiled step computes what the model computes and leaves the same state, for every kind of model and weights."""

import dataclasses
import os
import subprocess
import sys

import pytest
import torch

from mamba_slm.core.errors import CheckFailedError, ConfigError, SetupError, UsageError
from mamba_slm.generation.compiled import runtime as compiled_runtime
from mamba_slm.generation.compiled.after import StatesAfter
from mamba_slm.generation.compiled.runtime import MOST_ROWS, CompiledRuntime, open_compiled
from mamba_slm.generation.generate import generate
from mamba_slm.generation.loading import RUNTIMES
from mamba_slm.generation.runtime import TorchRuntime
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.init import build_model
from mamba_slm.model.packed import PackedEmbedding, PackedProjection, nearest_model
from mamba_slm.model.quantization import PLANS, Quantization
from mamba_slm.model.state import FIRST_CAPACITY, KeyValueState, MambaState
from mamba_slm.ops.lowbit.packed import unpack
from mamba_slm.ops.lowbit.scheme import Scheme, scheme_named
from mamba_slm.ops.native.library import missing_for_native
from small_models import save_small_model, varied_model
from tolerances import error_between, tolerance_of

pytestmark = pytest.mark.skipif(missing_for_native() is not None, reason=str(missing_for_native()))

BASE = ModelConfig(
    pattern="-M-*-MM-*",
    vocab_size=40,
    hidden_size=32,
    num_heads=4,
    num_kv_heads=2,
    feed_forward_size=48,
    state_size=8,
    ssm_head_dim=16,
    chunk_size=8,
    max_context_tokens=64,
)
VARIETIES = {
    "rotary": {},
    "no positions": {"position": "nope"},
    "alibi": {"position": "alibi"},
    "learned": {"position": "learned"},
    "stretched": {"rope_scaling": "yarn", "rope_scaling_factor": 2.0},
    "window": {"attention_window": 3},
    "two groups": {"num_groups": 2},
    "untied": {"tie_embeddings": False},
    "three taps": {"conv_kernel": 3},
    "no attention": {"pattern": "M-M"},
    "no mamba": {"pattern": "*-*-"},
    "odd sizes": {
        "hidden_size": 36,
        "num_heads": 2,
        "num_kv_heads": 1,
        "ssm_head_dim": 9,
        "state_size": 21,
        "feed_forward_size": 50,
        "vocab_size": 37,
    },
    "wide": {"hidden_size": 96, "ssm_head_dim": 24, "num_groups": 2, "state_size": 32, "feed_forward_size": 64},
}


def model_of(variety, weights="float32"):
    """A model with float32, bfloat16 or packed weights; packed ones have float32 activations and caches."""
    model = build_model(dataclasses.replace(BASE, **VARIETIES[variety]), seed=1).eval()
    if weights in PLANS or weights == "every format":
        return nearest_model(model, PLANS.get(weights, EVERY_FORMAT), dtype=torch.float32)
    return model.to(getattr(torch, weights))


def decoded(runtime, prompt, tokens, state):
    """Logits [b n v] of the tokens [b n], one at a time after the prompt."""
    if prompt is not None:
        runtime.next_logits(prompt, None, state)
    return torch.stack([runtime.next_logits(token[:, None], None, state) for token in tokens.T], dim=1)


def random_tokens(*shape, vocab_size=37):
    return torch.randint(0, vocab_size, shape, generator=torch.Generator().manual_seed(3))


CASES = [(variety, weights, 3) for variety in VARIETIES for weights in ("float32", "bfloat16", "mixed")]
CASES += [("wide", weights, rows) for weights in ("float32", "bfloat16", "int8", "int4") for rows in (1, 6)]
CASES += [("wide", weights, rows) for weights in ("nf4", "fp4", "int8-dynamic", "every format") for rows in (1, 9)]
CASES += [("odd sizes", "int8-dynamic", 2), ("untied", "every format", 2)]
EVERY_FORMAT = Quantization(
    default=Scheme(format="int4", symmetric=False),
    parts={
        "in_proj": Scheme(format="int8", symmetric=False),
        "q_proj": scheme_named("int8-dynamic"),
        "k_proj": scheme_named("nf4"),
        "v_proj": None,
        "down_proj": scheme_named("fp4"),
    },
)
"""Matrices that read the same inputs in four forms, too."""


@pytest.mark.parametrize(("variety", "weights", "rows"), CASES)
def test_a_step_gives_the_logits_and_leaves_the_state_of_the_plain_one(variety, weights, rows):
    model = model_of(variety, weights)
    plain, compiled = TorchRuntime(model), CompiledRuntime(model)
    states = [runtime.new_state(rows) for runtime in (plain, compiled)]
    prompt, tokens = random_tokens(rows, 5), random_tokens(rows, 6)
    expected = decoded(plain, prompt, tokens, states[0])
    found = decoded(compiled, prompt, tokens, states[1])
    rounds = weights in ("int8-dynamic", "every format")  # so a last bit may decide about a step of 8 bits
    tolerance = tolerance_of("model", torch.bfloat16 if rounds else model.embedding.weight.dtype).values
    assert found.dtype == torch.float32
    assert error_between(found, expected) <= tolerance
    assert states[1].num_tokens.tolist() == [11] * rows and states[1].length == states[0].length
    # Both go on as the plain runtime from here, so the states must be the same.
    ends = [plain.next_logits(random_tokens(rows, 2), None, state) for state in states]
    assert error_between(ends[1], ends[0]) <= tolerance


@pytest.mark.parametrize("weights", [name for name in PLANS if not name.endswith("dynamic")])  # which rounds more
def test_a_packed_model_is_the_float32_model_with_the_rounded_matrices(weights):
    model = model_of("wide", "float32")
    packed = nearest_model(model_of("wide", "float32"), PLANS[weights], dtype=torch.float32)
    matrices = {name for name, tensor in model.named_parameters() if tensor.dim() == 2 and "conv" not in name}
    for name, part in packed.named_modules():
        if isinstance(part, PackedProjection | PackedEmbedding) and name != "lm_head":  # which is the embedding
            matrices.remove(f"{name}.weight")
            model.get_parameter(f"{name}.weight").data = unpack(part.packed)
    assert not matrices
    prompt, tokens = random_tokens(2, 7), random_tokens(2, 5)
    plain, compiled = TorchRuntime(model), CompiledRuntime(packed)
    expected = decoded(plain, prompt, tokens, plain.new_state(2))
    assert error_between(decoded(compiled, prompt, tokens, compiled.new_state(2)), expected) <= 1e-5


@pytest.mark.parametrize("threads", [2, 3])
def test_the_number_of_threads_changes_no_bit(threads):
    model = model_of("rotary", "int8")
    runtime, tokens = CompiledRuntime(model), random_tokens(3, 4)
    expected = decoded(runtime, None, tokens, runtime.new_state(3))
    torch.set_num_threads(threads)
    try:
        assert torch.equal(decoded(runtime, None, tokens, runtime.new_state(3)), expected)
    finally:
        torch.set_num_threads(1)


def test_many_slots_are_looked_at_in_pieces_and_the_cache_grows():
    config = dataclasses.replace(BASE, pattern="*M", max_context_tokens=700, attention_window=300)
    model = build_model(config, seed=1).eval()
    plain, compiled = TorchRuntime(model), CompiledRuntime(model)
    states = [plain.new_state(1), plain.new_state(1)]
    prompt, tokens = random_tokens(1, 510), random_tokens(1, 6)
    expected, found = (
        decoded(runtime, prompt, tokens, state) for runtime, state in zip((plain, compiled), states, strict=True)
    )
    assert error_between(found, expected) <= tolerance_of("model").values
    assert isinstance(states[1].layers[0], KeyValueState)
    assert states[1].layers[0].keys.shape[2] > FIRST_CAPACITY


def test_a_window_drops_what_no_token_sees_and_changes_nothing():
    model = build_model(dataclasses.replace(BASE, pattern="*M", max_context_tokens=700, attention_window=20), seed=1)
    compiled, tokens = CompiledRuntime(model.eval()), random_tokens(2, 300)
    state = compiled.new_state(2)
    found = decoded(compiled, tokens[:, :5], tokens[:, 5:], state)
    with torch.no_grad():
        assert error_between(found, model(tokens)[:, 5:]) <= tolerance_of("model").values
    assert state.dropped > 0 and state.positions.shape[1] <= 2 * FIRST_CAPACITY


def test_rows_that_were_padded_are_continued():
    model = model_of("rotary")
    plain, compiled = TorchRuntime(model), CompiledRuntime(model)
    tokens, mask = random_tokens(2, 5), torch.tensor([[True, True, True, False, False], [True] * 5])
    states = [runtime.new_state(2) for runtime in (plain, compiled)]
    for runtime, state in zip((plain, compiled), states, strict=True):
        runtime.next_logits(tokens, mask, state)
    one = random_tokens(2, 2)
    expected, found = decoded(plain, None, one, states[0]), decoded(compiled, None, one, states[1])
    assert error_between(found, expected) <= tolerance_of("model").values
    alone = plain.new_state(1)
    expected = decoded(plain, tokens[:1, :3], one[:1], alone)
    assert error_between(found[:1], expected) <= tolerance_of("model").values


def test_a_snapshot_is_not_touched_by_later_steps():
    compiled = CompiledRuntime(model_of("rotary"))
    state = compiled.new_state(1)
    compiled.next_logits(torch.tensor([[3, 1, 4]]), None, state)
    snapshot = state.snapshot()
    first = compiled.next_logits(torch.tensor([[9]]), None, state)
    compiled.next_logits(torch.tensor([[2]]), None, state)
    state.restore(snapshot)
    assert torch.equal(compiled.next_logits(torch.tensor([[9]]), None, state), first)


def test_a_conversation_is_constant_in_the_mamba_layers_and_grows_in_attention_only():
    compiled = CompiledRuntime(model_of("rotary", "int8"))
    state = compiled.new_state(2)
    sizes = {}
    for length in (1, 60):
        while state.length < length:
            compiled.next_logits(random_tokens(2, 1), None, state)
        sizes[length] = [
            sum(t.nbytes for t in vars(layer).values() if isinstance(t, torch.Tensor))
            for layer in state.layers
            if isinstance(layer, MambaState)
        ]
    c = BASE
    expected = 4 * 2 * (c.inner_size * c.state_size + (c.conv_kernel - 1) * c.conv_size)
    assert sizes[1] == sizes[60] == [expected] * c.num_mamba
    keys = [layer.keys for layer in state.layers if isinstance(layer, KeyValueState)]
    assert all(k.shape == (2, c.num_kv_heads, FIRST_CAPACITY, c.head_dim) for k in keys)


def test_several_rows_and_single_ones_give_the_same_text_as_the_plain_step():
    model = varied_model(vocab_size=40)
    compiled = CompiledRuntime(model)
    prompts = [[5, 6, 7], [1, 2]]
    expected = generate(model, prompts, max_new_tokens=12).completions
    assert generate(compiled, prompts, max_new_tokens=12).completions == expected
    alone = [generate(compiled, [prompt], max_new_tokens=12).completions[0] for prompt in prompts]
    assert tuple(alone) == expected


def test_very_many_rows_go_the_plain_way():
    model = model_of("no mamba")
    plain, compiled = TorchRuntime(model), CompiledRuntime(model)
    tokens = torch.zeros(MOST_ROWS + 1, 1, dtype=torch.int64)
    states = [plain.new_state(MOST_ROWS + 1) for _ in range(2)]
    expected = plain.next_logits(tokens, None, states[0])
    assert torch.equal(compiled.next_logits(tokens, None, states[1]), expected)


def test_a_full_context_is_refused_as_by_the_plain_step():
    compiled = CompiledRuntime(model_of("no attention"))
    state = compiled.new_state(1)
    compiled.next_logits(random_tokens(1, 64), None, state)
    with pytest.raises(ConfigError, match="65 tokens do not fit"):
        compiled.next_logits(torch.tensor([[1]]), None, state)


@pytest.mark.parametrize("token", [-1, 40])
def test_a_token_outside_the_vocabulary_is_refused_and_changes_nothing(token):
    compiled = CompiledRuntime(model_of("rotary"))
    state = compiled.new_state(2)
    expected = compiled.next_logits(torch.tensor([[1], [2]]), None, state.snapshot())
    with pytest.raises(UsageError, match=f"row 1 holds token {token}"):
        compiled.next_logits(torch.tensor([[1], [token]]), None, state)
    assert torch.equal(compiled.next_logits(torch.tensor([[1], [2]]), None, state), expected)


def test_a_wrong_step_is_found_before_the_first_token(monkeypatch):
    monkeypatch.setattr(compiled_runtime, "has_passed", lambda *depends_on: False)

    class Wrong(CompiledRuntime):
        def step(self, tokens, state):
            return -super().step(tokens, state)

    with pytest.raises(CheckFailedError, match="other logits"):
        Wrong(model_of("rotary"))


def test_a_model_in_float16_is_refused():
    with pytest.raises(SetupError, match="float16"):
        CompiledRuntime(model_of("rotary", "float16"))


def test_without_a_compiler_the_error_says_what_to_do(monkeypatch, tmp_path):
    from mamba_slm.core import native

    native.load_library.cache_clear()
    monkeypatch.setenv("MAMBA_SLM_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(SetupError, match="no g\\+\\+") as failure:
        CompiledRuntime(model_of("rotary"))
    assert "g++" in str(failure.value.hint)


def test_the_command_line_finds_the_runtime_by_its_name():
    assert RUNTIMES["compiled"].endswith(f":{open_compiled.__name__}")


@pytest.mark.slow
def test_the_command_compiles_once_says_so_and_prints_the_text_of_the_plain_step(tmp_path):
    folder = save_small_model(tmp_path / "model")
    settings = {**os.environ, "MAMBA_SLM_CACHE": str(tmp_path / "cache")}

    def run(*extra):
        words = ["generate", str(folder), "def ", "--temperature", "0", "--max-new-tokens", "20", *extra]
        command = [sys.executable, "-m", "mamba_slm.cli.main", *words]
        return subprocess.run(command, capture_output=True, text=True, env=settings, check=True)

    first, again, plain = run(), run("--runtime", "compiled"), run("--runtime", "torch")
    assert first.stdout == again.stdout == plain.stdout
    assert "compiling the decoding step, once for this machine" in first.stderr
    assert "compiling" not in again.stderr and "compiled step" in again.stderr
    assert "int8 weights, " in run("--weights", "int8").stderr


SEQUENCES = [(variety, weights) for variety in VARIETIES for weights in ("float32", "bfloat16", "int8")]


@pytest.mark.parametrize(("variety", "weights"), SEQUENCES)
def test_successive_tokens_are_read_at_once_and_any_beginning_of_them_is_kept(variety, weights):
    model = model_of(variety, weights)
    runtime, plain = CompiledRuntime(model), TorchRuntime(model)
    prompt, tokens = random_tokens(1, 5), random_tokens(1, 24)[0]
    expected = decoded(plain, prompt, tokens[None], plain.new_state(1))[0]
    tolerance = tolerance_of("model", model.embedding.weight.dtype).values
    state, after, at = runtime.new_state(1), StatesAfter(5), 0
    runtime.next_logits(prompt, None, state)
    for kept in (1, 2, 3, 4, 5, 5, 1):
        wrong = torch.cat([tokens[at : at + kept], random_tokens(5)])[:5]  # what is not kept may be anything
        found = runtime.read_sequence(wrong, state, after)
        assert error_between(found[:kept], expected[at : at + kept]) <= tolerance
        after.keep(state, kept)
        at += kept
        assert state.num_tokens.tolist() == [5 + at] and state.length == 5 + at
    after.release(state)
    one = runtime.next_logits(tokens[None, at : at + 1], None, state)
    assert error_between(one[0], expected[at]) <= tolerance


def test_a_sequence_crosses_a_piece_of_slots_and_the_window():
    config = dataclasses.replace(BASE, pattern="*M", max_context_tokens=700, attention_window=300)
    model = build_model(config, seed=1).eval()
    plain, compiled = TorchRuntime(model), CompiledRuntime(model)
    prompt, tokens = random_tokens(1, 509), random_tokens(1, 8)
    expected = decoded(plain, prompt, tokens, plain.new_state(1))
    state, after = compiled.new_state(1), StatesAfter(8)
    compiled.next_logits(prompt, None, state)
    found = compiled.read_sequence(tokens[0], state, after)
    assert error_between(found, expected[0]) <= tolerance_of("model").values


def test_a_sequence_that_cannot_be_read_changes_nothing():
    compiled = CompiledRuntime(model_of("rotary"))
    state, after = compiled.new_state(1), StatesAfter(4)
    compiled.next_logits(random_tokens(1, 5), None, state)
    expected = compiled.next_logits(torch.tensor([[7]]), None, state.snapshot())
    with pytest.raises(UsageError, match="place 1 holds token 99"):
        compiled.read_sequence(torch.tensor([3, 99]), state, after)
    with pytest.raises(ConfigError, match="do not fit"):
        compiled.read_sequence(torch.ones(60, dtype=torch.int64), state, StatesAfter(60))
    assert torch.equal(compiled.next_logits(torch.tensor([[7]]), None, state), expected)
    with pytest.raises(UsageError, match="continues one row"):
        compiled.read_sequence(torch.tensor([3]), compiled.new_state(2), after)


@pytest.mark.parametrize("variety", ["rotary", "odd sizes", "no mamba"])
def test_hidden_states_of_a_step_are_those_of_the_plain_one(variety):
    model = model_of(variety)
    compiled, plain = CompiledRuntime(model), TorchRuntime(model)
    states = [runtime.new_state(3) for runtime in (compiled, plain)]
    for tokens in ([[1], [2], [3]], [[4], [4], [5]]):
        found, expected = (
            runtime.next_hidden(torch.tensor(tokens), state)
            for runtime, state in zip((compiled, plain), states, strict=True)
        )
        for ours, theirs in zip(found, expected, strict=True):
            assert error_between(ours, theirs) <= tolerance_of("model").values
