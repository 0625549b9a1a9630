"""The formulas that get compiled compute what the model computes, for every kind of model; run here as they are."""

import dataclasses

import pytest
import torch

from mamba_slm.core.errors import CheckFailedError, SetupError
from mamba_slm.generation.compiled.regions import Region, regions_of
from mamba_slm.generation.compiled.runtime import CompiledRuntime, open_compiled
from mamba_slm.generation.generate import generate
from mamba_slm.generation.loading import RUNTIMES
from mamba_slm.generation.runtime import TorchRuntime
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.init import build_model
from small_models import varied_model
from tolerances import error_between, tolerance_of

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
}


def not_compiled(region, tensors, *, on_compile):
    """The region itself, in place of machine code of it."""
    assert torch.equal(tensors[0], torch.zeros_like(tensors[0]))
    return region


def runtimes_of(config, *, dtype=torch.float32):
    model = build_model(config, seed=1).to(dtype).eval()
    return TorchRuntime(model), CompiledRuntime(model, open_region=not_compiled)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("variety", VARIETIES)
def test_a_step_gives_the_logits_and_leaves_the_state_of_the_plain_one(variety, dtype):
    plain, compiled = runtimes_of(dataclasses.replace(BASE, **VARIETIES[variety]), dtype=dtype)
    states = [runtime.new_state(1) for runtime in (plain, compiled)]
    prompt = torch.tensor([[3, 1, 4, 1, 5]])
    tolerance = tolerance_of("model", dtype).values
    for runtime, state in zip((plain, compiled), states, strict=True):
        runtime.next_logits(prompt, None, state)
    for token in (9, 2, 6, 5, 3, 5):
        expected, found = (
            runtime.next_logits(torch.tensor([[token]]), None, state)
            for runtime, state in zip((plain, compiled), states, strict=True)
        )
        assert found.shape == (1, 40) and found.dtype == torch.float32
        assert error_between(found, expected) <= tolerance
    assert states[1].num_tokens.tolist() == [11] and states[1].length == states[0].length
    # Both go on as the plain runtime from here, so the states must be the same.
    ends = [plain.next_logits(torch.tensor([[7, 8]]), None, state) for state in states]
    assert error_between(ends[1], ends[0]) <= tolerance


def test_a_row_that_was_padded_is_continued():
    plain, compiled = runtimes_of(BASE)
    tokens, mask = torch.tensor([[3, 1, 4, 0, 0]]), torch.tensor([[True, True, True, False, False]])
    states = [runtime.new_state(1) for runtime in (plain, compiled)]
    plain.next_logits(tokens, mask, states[0])
    compiled.next_logits(tokens, mask, states[1])
    one = torch.tensor([[9]])
    found, expected = compiled.next_logits(one, None, states[1]), plain.next_logits(one, None, states[0])
    assert error_between(found, expected) <= tolerance_of("model").values
    alone = plain.new_state(1)
    plain.next_logits(tokens[:, :3], None, alone)
    assert error_between(found, plain.next_logits(one, None, alone)) <= tolerance_of("model").values


def test_a_snapshot_is_not_touched_by_later_steps():
    _, compiled = runtimes_of(BASE)
    state = compiled.new_state(1)
    compiled.next_logits(torch.tensor([[3, 1, 4]]), None, state)
    snapshot = state.snapshot()
    first = compiled.next_logits(torch.tensor([[9]]), None, state)
    compiled.next_logits(torch.tensor([[2]]), None, state)
    state.restore(snapshot)
    assert torch.equal(compiled.next_logits(torch.tensor([[9]]), None, state), first)


def test_several_rows_and_single_ones_give_the_same_text():
    model = varied_model(vocab_size=40)
    compiled = CompiledRuntime(model, open_region=not_compiled)
    prompts = [[5, 6, 7], [1, 2]]
    expected = generate(model, prompts, max_new_tokens=12).completions
    assert generate(compiled, prompts, max_new_tokens=12).completions == expected
    alone = [generate(compiled, [prompt], max_new_tokens=12).completions[0] for prompt in prompts]
    assert tuple(alone) == expected


def test_the_regions_of_a_deep_model_are_of_few_kinds():
    assert set(regions_of("*-*-M-M-M-*-M-M-M-M-*-M-")) == {"q", "o-", "M-", "h"}
    assert regions_of("-MM*--") == ["-", "M", "M", "q", "o--", "h"]


def test_a_wrong_formula_is_found_before_the_first_token():
    class Wrong(Region):
        def feed_forward(self, h, tensors):
            return -super().feed_forward(h, tensors)

    model = build_model(BASE, seed=1).eval()
    with pytest.raises(CheckFailedError, match="other logits"):
        CompiledRuntime(model, open_region=lambda region, tensors, *, on_compile: Wrong(region.letters, region.config))


def test_a_model_in_float16_is_refused():
    with pytest.raises(SetupError, match="float16"):
        CompiledRuntime(build_model(BASE, seed=1).half(), open_region=not_compiled)


def test_the_command_line_finds_the_runtime_by_its_name():
    assert RUNTIMES["compiled"].endswith(f":{open_compiled.__name__}")
