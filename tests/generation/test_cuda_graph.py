"""A step in memory that never moves is the plain step, whatever happened to the state before; graphs only replay it."""

import pytest
import torch

from mamba_slm.core.errors import ConfigError, SetupError
from mamba_slm.generation import cuda_graph
from mamba_slm.generation.cuda_graph import GraphRuntime, graphs_if_possible, open_cuda_graph
from mamba_slm.generation.generate import generate
from mamba_slm.generation.loading import open_torch
from mamba_slm.generation.runtime import RuntimeSettings, TorchRuntime
from mamba_slm.generation.sampling import Sampler
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.init import build_model
from small_models import save_small_model, varied_model
from tolerances import assert_close, tolerance_of


@pytest.fixture(autouse=True)
def few_slots(monkeypatch):
    """So that every test grows."""
    monkeypatch.setattr(cuda_graph, "FIRST_SLOTS", 4)


def pair(model=None):
    model = model or varied_model()
    return TorchRuntime(model), GraphRuntime(model, record=False)


def assert_same_steps(runtimes, states, steps, *, seed=0):
    """Read the same random tokens one at a time with both, and compare all logits and what the states remember."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        tokens = torch.randint(runtimes[0].config.vocab_size, (states[0].batch_size, 1), generator=generator)
        expected, found = (
            runtime.next_logits(tokens, None, state) for runtime, state in zip(runtimes, states, strict=True)
        )
        assert_close(found, expected, tolerance_of("model").values)
    plain, static = states
    assert static.length == plain.length
    assert torch.equal(static.num_tokens, plain.num_tokens)
    assert torch.equal(static.positions[:, : plain.length], plain.positions[:, : plain.length])
    assert torch.equal(static.valid[:, : plain.length], plain.valid[:, : plain.length])


PROMPTS = torch.tensor([[5, 6, 7, 8, 9], [10, 11, 12, 13, 14]])
MASK = torch.tensor([[True] * 5, [True, True, True, False, False]])


def read(runtimes, mask=None):
    states = [runtime.new_state(2) for runtime in runtimes]
    for runtime, state in zip(runtimes, states, strict=True):
        runtime.next_logits(PROMPTS, mask, state)
    return states


def test_from_the_first_token_on_and_beyond_every_capacity():
    runtimes = pair()
    assert_same_steps(runtimes, [runtime.new_state(1) for runtime in runtimes], 20)


@pytest.mark.parametrize("mask", [None, MASK], ids=["equal", "padded"])
def test_after_a_prompt_of_several_rows(mask):
    runtimes = pair()
    assert_same_steps(runtimes, read(runtimes, mask), 10)


CONFIGS = {
    "learned positions": {"position": "learned"},
    "no positions": {"position": "nope"},
    "a window of attention": {"attention_window": 3},
    "an untied head": {"tie_embeddings": False},
    "attention alone": {"pattern": "*-*-"},
    "Mamba alone": {"pattern": "MM-"},
}


@pytest.mark.parametrize("settings", CONFIGS.values(), ids=CONFIGS)
def test_models_of_every_kind(settings):
    sizes = {"hidden_size": 32, "num_heads": 2, "num_kv_heads": 1, "feed_forward_size": 48, "state_size": 8}
    rest = {"pattern": "M*-", "vocab_size": 50, "ssm_head_dim": 16, "max_context_tokens": 64}
    runtimes = pair(build_model(ModelConfig(**(sizes | rest | settings)), seed=0))
    assert_same_steps(runtimes, read(runtimes), 8)


def test_two_states_of_as_many_rows_take_turns():
    runtimes = pair()
    first, second = read(runtimes), read(runtimes)
    for seed in range(3):
        assert_same_steps(runtimes, first, 2, seed=seed)
        assert_same_steps(runtimes, second, 1, seed=10 + seed)


def test_states_are_copied_chosen_and_restored_in_between():
    runtimes = pair()
    states = read(runtimes)
    assert_same_steps(runtimes, states, 3)
    snapshots = [state.snapshot() for state in states]
    forks = [state.fork(2) for state in states]
    chosen = [state.select(torch.tensor([1])) for state in states]
    assert_same_steps(runtimes, states, 2)
    assert_same_steps(runtimes, forks, 2)
    assert_same_steps(runtimes, chosen, 2)
    for state, snapshot in zip(states, snapshots, strict=True):
        state.restore(snapshot)
    assert states[1].length == 8
    assert_same_steps(runtimes, states, 3, seed=5)


def test_another_prompt_may_follow_single_tokens():
    runtimes = pair()
    states = read(runtimes)
    assert_same_steps(runtimes, states, 2)
    for runtime, state in zip(runtimes, states, strict=True):
        runtime.next_logits(PROMPTS, MASK, state)
    assert_same_steps(runtimes, states, 4)


def test_another_prompt_may_follow_in_the_same_memory(monkeypatch):
    monkeypatch.setattr(cuda_graph, "FIRST_SLOTS", 64)  # so that nothing grows and nothing moves
    runtimes = pair()
    states = read(runtimes)
    assert_same_steps(runtimes, states, 3)
    for runtime, state in zip(runtimes, states, strict=True):
        runtime.next_logits(PROMPTS, None, state)
    assert_same_steps(runtimes, states, 3)


def test_generated_texts_are_the_same_with_rows_that_end_at_different_times():
    runtimes = pair()
    settings = {"max_new_tokens": 12, "eos_id": 17, "seed": 3, "samples_per_prompt": 2}
    sampler = Sampler.from_settings(temperature=1.0)
    results = [generate(runtime, [[5, 6, 7], [8]], sampler=sampler, **settings) for runtime in runtimes]
    assert results[0].completions == results[1].completions


def test_buffers_are_reused_and_never_move_until_they_are_full():
    _, runtime = pair()
    state = runtime.new_state(1)
    token = torch.zeros(1, 1, dtype=torch.int64)
    runtime.next_logits(token, None, state)
    step = runtime._steps[1]
    places = [layer.ssm.data_ptr() for layer in state.layers if hasattr(layer, "ssm")]
    runtime.next_logits(token, None, state)
    assert runtime._steps[1] is step
    assert places == [layer.ssm.data_ptr() for layer in state.layers if hasattr(layer, "ssm")]
    for _ in range(4):
        runtime.next_logits(token, None, state)
    assert runtime._steps[1] is not step
    assert runtime._steps[1].capacity == 2 * step.capacity


def test_the_context_has_an_end():
    _, runtime = pair(varied_model(max_context_tokens=5))
    state = runtime.new_state(1)
    for _ in range(5):
        runtime.next_logits(torch.zeros(1, 1, dtype=torch.int64), None, state)
    with pytest.raises(ConfigError, match="do not fit"):
        runtime.next_logits(torch.zeros(1, 1, dtype=torch.int64), None, state)


def test_without_a_gpu_it_says_so(tmp_path):
    folder = save_small_model(tmp_path / "model")
    with pytest.raises(SetupError, match="run on NVIDIA GPUs, this model is on cpu"):
        open_cuda_graph(folder, RuntimeSettings(device="cpu"))
    opened = graphs_if_possible(open_torch(folder, RuntimeSettings(device="cpu")))
    assert type(opened.runtime) is TorchRuntime
    assert opened.reason.startswith("asked for; no CUDA graphs: CUDA graphs run on NVIDIA GPUs")


@pytest.mark.gpu
def test_a_replayed_graph_is_the_plain_step():
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU here")
    model = varied_model().to("cuda")
    plain, graph = TorchRuntime(model), GraphRuntime(model)
    states = [runtime.new_state(2) for runtime in (plain, graph)]
    for number in range(12):
        tokens = torch.full((2, 1), number, device="cuda")
        expected, found = plain.next_logits(tokens, None, states[0]), graph.next_logits(tokens, None, states[1])
        assert_close(found, expected, tolerance_of("model").gradients)
