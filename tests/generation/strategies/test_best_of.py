"""Promises of best of n."""

import pytest
import torch

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.generate import generate, stream_tokens
from mamba_slm.generation.sampling import Sampler
from mamba_slm.generation.strategies.best_of import BestOf
from model.hf_models import random_tokens, varied
from tolerances import tolerance_of

PROMPTS = [random_tokens(length, seed=length).tolist() for length in (7, 2)]
DRAWING = {"max_new_tokens": 8, "sampler": Sampler.from_settings(temperature=1.0), "seed": 3}


@torch.no_grad()
def mean_logprob(model, prompt, tokens):
    logprobs = model(torch.tensor([[*prompt, *tokens]]))[0].log_softmax(-1)
    return float(sum(logprobs[len(prompt) + i - 1, token] for i, token in enumerate(tokens)) / len(tokens))


def test_the_best_are_the_most_likely_of_the_same_draws():
    model = varied("portable")
    drawn = generate(model, PROMPTS, samples_per_prompt=6, **DRAWING).completions
    best = generate(model, PROMPTS, samples_per_prompt=2, strategy=BestOf(draws=6), **DRAWING).completions
    for number, prompt in enumerate(PROMPTS):
        scores = {row.tokens: mean_logprob(model, prompt, row.tokens) for row in drawn[6 * number : 6 * number + 6]}
        expected = sorted(scores, key=lambda tokens: -scores[tokens])[:2]
        mine = best[2 * number : 2 * number + 2]
        assert [row.tokens for row in mine] == expected
        assert [row.score for row in mine] == pytest.approx(
            [scores[tokens] for tokens in expected], rel=tolerance_of("model").values
        )


def test_it_continues_a_state():
    model = varied("portable")
    (whole,) = generate(model, PROMPTS[:1], strategy=BestOf(draws=4), **DRAWING).completions
    state = model.new_state(1)
    events = list(stream_tokens(model, PROMPTS[:1], state=state, strategy=BestOf(draws=4), **DRAWING))
    assert tuple(event.token for event in events) == whole.tokens
    assert state.num_tokens.tolist() == [len(PROMPTS[0]) + 7]


def test_more_results_than_draws_are_refused():
    with pytest.raises(ConfigError, match="best 3 of 2"):
        generate(varied("portable"), PROMPTS, samples_per_prompt=3, strategy=BestOf(draws=2), **DRAWING)
