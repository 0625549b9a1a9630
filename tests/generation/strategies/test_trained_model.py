"""On a model that has learned something, a batch writes what single prompts write, and searches find better texts."""

import pytest
import torch

from mamba_slm.generation.generate import generate, stream_tokens
from mamba_slm.generation.strategies.beam import BeamSearch
from mamba_slm.generation.strategies.separate import Separate
from mamba_slm.generation.text import prompt_tokens
from mamba_slm.model.checkpoint import load_model
from mamba_slm.text.tokenizer import Tokenizer

pytestmark = pytest.mark.slow
NUM_PROMPTS = NEW_TOKENS = 64
SMALLEST_MARGIN = 1e-4  # of the logits; below it rounding may decide


@pytest.fixture(scope="module")
def written(trained_model):
    """Model, prompts of different lengths, and what each alone becomes greedily."""
    model, tokenizer = load_model(trained_model.folder), Tokenizer.load(trained_model.folder)
    stories = trained_model.held_out * NUM_PROMPTS
    prompts = [prompt_tokens(tokenizer, stories[number][: 20 + 3 * number]) for number in range(NUM_PROMPTS)]
    alone = [generate(model, [prompt], max_new_tokens=NEW_TOKENS).completions[0].tokens for prompt in prompts]
    return model, prompts, alone


@torch.no_grad()
def margin_of(model, tokens):
    """Between the two largest logits after the tokens."""
    best = model(torch.tensor([tokens]))[0, -1].topk(2).values
    return float(best[0] - best[1])


def test_a_batch_of_different_lengths_writes_what_each_prompt_writes_alone(written):
    model, prompts, alone = written
    together = generate(model, prompts, max_new_tokens=NEW_TOKENS).completions
    for prompt, expected, found in zip(prompts, alone, together, strict=True):
        if found.tokens != expected:
            first = next(i for i, pair in enumerate(zip(found.tokens, expected, strict=True)) if pair[0] != pair[1])
            assert margin_of(model, [*prompt, *expected[:first]]) < SMALLEST_MARGIN


def test_a_batch_invariant_run_is_exact(written):
    model, prompts, alone = written
    settings = {"max_new_tokens": 16, "logprobs": True, "strategy": Separate()}
    rows = [[] for _ in prompts]
    for event in stream_tokens(model, prompts, **settings):
        rows[event.row].append((event.token, event.logprob))
    assert [tuple(token for token, _ in row) for row in rows] == [tokens[:16] for tokens in alone]
    for prompt, row in list(zip(prompts, rows, strict=True))[::8]:
        assert row == [(event.token, event.logprob) for event in stream_tokens(model, [prompt], **settings)]


def test_beams_find_texts_that_the_model_likes_at_least_as_much_as_greedy_ones(written):
    model, prompts, alone = written
    beams = generate(model, prompts[:8], max_new_tokens=24, strategy=BeamSearch(beams=4)).completions
    better = 0
    for prompt, greedy, beam in zip(prompts, alone, beams, strict=False):
        with torch.no_grad():
            logprobs = model(torch.tensor([[*prompt, *greedy[:24]]]))[0].log_softmax(-1)
        likelihood = sum(float(logprobs[len(prompt) + i - 1, token]) for i, token in enumerate(greedy[:24])) / 24
        better += beam.score >= likelihood - 1e-4
    assert better >= 7  # a greedy text may fall off the beam
