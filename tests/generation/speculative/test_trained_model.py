"""On a model that has learned something, guesses are right often enough to matter, and change no text."""

import pytest
import torch

from mamba_slm.generation.compiled.runtime import CompiledRuntime
from mamba_slm.generation.generate import generate, stream_tokens
from mamba_slm.generation.runtime import TorchRuntime
from mamba_slm.generation.sampling import Sampler
from mamba_slm.generation.speculative.decode import Speculative
from mamba_slm.generation.speculative.proposals import DraftModel, PromptLookup
from mamba_slm.generation.text import prompt_tokens
from mamba_slm.model.checkpoint import load_model
from mamba_slm.model.packed import nearest_model
from mamba_slm.model.quantization import PLANS
from mamba_slm.ops.native.library import missing_for_native
from mamba_slm.text.tokenizer import Tokenizer

pytestmark = pytest.mark.slow
NUM_PROMPTS = NEW_TOKENS = 64
SMALLEST_MARGIN = 1e-4  # of the logits; below it rounding may decide


@torch.no_grad()
def margin_of(model, tokens):
    """Between the two largest logits after the tokens."""
    best = model(torch.tensor([tokens]))[0, -1].topk(2).values
    return float(best[0] - best[1])


def runtime_of(name, folder):
    """The trained model in a runtime."""
    if name == "torch":
        return TorchRuntime(load_model(folder))
    if missing_for_native() is not None:
        pytest.skip(str(missing_for_native()))
    return CompiledRuntime(load_model(folder))


@pytest.mark.parametrize("name", ["torch", "compiled"])
def test_greedy_text_is_the_same_on_64_prompts(trained_model, name):
    runtime, tokenizer = runtime_of(name, trained_model.folder), Tokenizer.load(trained_model.folder)
    stories = trained_model.held_out * NUM_PROMPTS
    counts = 0
    for number in range(NUM_PROMPTS):
        prompt = prompt_tokens(tokenizer, stories[number][: 20 + 3 * number])
        expected = generate(runtime, [prompt], max_new_tokens=NEW_TOKENS).completions[0].tokens
        stream = stream_tokens(
            runtime, [prompt], max_new_tokens=NEW_TOKENS, strategy=Speculative(source=PromptLookup())
        )
        found = tuple(event.token for event in stream)
        counts += stream.counts.right
        if found != expected:
            first = next(i for i, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1])
            assert margin_of(runtime.model, [*prompt, *expected[:first]]) < SMALLEST_MARGIN
    assert counts > NUM_PROMPTS  # stories repeat themselves a little


def test_a_draft_of_four_bits_is_mostly_right_about_drawn_text(trained_model):
    runtime, tokenizer = runtime_of("torch", trained_model.folder), Tokenizer.load(trained_model.folder)
    draft = TorchRuntime(nearest_model(load_model(trained_model.folder), PLANS["int4"], dtype=torch.float32))
    strategy = Speculative(source=DraftModel(runtime=draft))
    sampler = Sampler.from_settings(temperature=0.8, top_p=0.95)
    for number, story in enumerate(trained_model.held_out[:8]):
        prompt = prompt_tokens(tokenizer, story[:60])
        settings = {"max_new_tokens": 40, "sampler": sampler, "seed": number}
        expected = generate(runtime, [prompt], **settings).completions
        assert generate(runtime, [prompt], **settings, strategy=strategy).completions == expected
    assert strategy.counts.tokens_per_reading > 2
