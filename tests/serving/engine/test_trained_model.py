"""On a model that has learned something: a request among 63 others returns what it returns alone."""

import pytest
import torch

from mamba_slm.generation.compiled.runtime import CompiledRuntime
from mamba_slm.generation.runtime import TorchRuntime
from mamba_slm.generation.text import prompt_tokens
from mamba_slm.model.checkpoint import load_model
from mamba_slm.model.packed import nearest_model
from mamba_slm.model.quantization import PLANS
from mamba_slm.ops.native.library import missing_for_native
from mamba_slm.serving.engine.opening import open_engine
from mamba_slm.serving.engine.request import EngineRequest
from mamba_slm.serving.engine.settings import EngineSettings
from mamba_slm.text.tokenizer import Tokenizer

pytestmark = pytest.mark.slow
REQUESTS, NEW_TOKENS = 64, 24
MARGIN = 1e-4
"""Of the two largest logits, where rounding may decide."""
ROUNDING_MARGIN = 2e-2
"""The same where inputs of products are rounded to 8 bits: a last bit of them may decide about a whole step."""
COMPARED = (0, 9, 21, 42, 63)
compiled_only = pytest.mark.skipif(missing_for_native() is not None, reason=str(missing_for_native()))


def answers(runtime, prompts, **settings):
    """Tokens and logprobs of every prompt, all served together."""
    core = open_engine(runtime, EngineSettings(**settings))
    made = [[] for _ in prompts]
    for prompt, into in zip(prompts, made, strict=True):
        core.submit(EngineRequest(prompt=prompt, max_new_tokens=NEW_TOKENS, logprobs=0), into.append)
    while core.step():
        pass
    return [[(answer.token, answer.logprob.logprob) for answer in each] for each in made]


def top_two_margin(model, tokens):
    """Distance of the two largest logits after a text."""
    largest = model(torch.tensor([tokens]))[0, -1].topk(2).values
    return float(largest[0] - largest[1])


def expect_the_same(model, prompt, alone, together, margin):
    """Equal tokens, or two of nearly equal logits where they part."""
    expected, found = ([token for token, _ in made] for made in (alone, together))
    if expected != found:
        place = next(place for place in range(NEW_TOKENS) if expected[place] != found[place])
        assert top_two_margin(model, [*prompt, *expected[:place]]) < margin


@pytest.fixture(scope="module")
def model_and_prompts(trained_model):
    model = load_model(trained_model.folder).requires_grad_(False)
    tokenizer = Tokenizer.load(trained_model.folder)
    stories = trained_model.held_out
    texts = [stories[number % len(stories)][: 20 + 9 * number % 400] for number in range(REQUESTS)]
    return model, [tuple(prompt_tokens(tokenizer, text)) for text in texts]


@pytest.mark.parametrize("kind", [TorchRuntime, pytest.param(CompiledRuntime, marks=compiled_only)])
def test_a_greedy_request_is_the_same_alone_and_among_63_others_up_to_ties(kind, model_and_prompts):
    model, prompts = model_and_prompts
    runtime = kind(model)
    together = answers(runtime, prompts)
    for number in COMPARED:
        (alone,) = answers(runtime, [prompts[number]])
        expect_the_same(model, prompts[number], alone, together[number], MARGIN)


@compiled_only
@pytest.mark.parametrize("plan", ["int8", "int8-dynamic"])
def test_packed_weights_too_return_the_same_alone_and_among_63_others_up_to_ties(plan, model_and_prompts):
    model, prompts = model_and_prompts
    packed = nearest_model(model, PLANS[plan], dtype=torch.float32)
    runtime = CompiledRuntime(packed)
    together = answers(runtime, prompts)
    margin = MARGIN if plan == "int8" else ROUNDING_MARGIN
    for number in COMPARED:
        (alone,) = answers(runtime, [prompts[number]])
        expect_the_same(packed, prompts[number], alone, together[number], margin)


@compiled_only
def test_in_batch_invariant_mode_no_bit_of_it_changes(model_and_prompts):
    model, prompts = model_and_prompts
    runtime = CompiledRuntime(model)
    together = answers(runtime, prompts, batch_invariant=True)
    for number in COMPARED:
        assert answers(runtime, [prompts[number]], batch_invariant=True) == [together[number]]
