"""Promises of the samplers, as properties."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import CheckFailedError, ConfigError
from mamba_slm.generation.sampling import Sampler, draw, row_generators
from mamba_slm.generation.strategies.filters import Greedy, Temperature, TopK
from mamba_slm.generation.strategies.history import History

# Few distinct values, so that ties are common.
logit_rows = st.lists(st.sampled_from([-math.inf, -3.0, -1.0, 0.0, 0.5, 2.0, 7.5]), min_size=1, max_size=12).filter(
    lambda row: max(row) > -math.inf
)
quick = settings(max_examples=150, deadline=None)


def test_a_draw_is_the_same_from_the_few_tokens_that_filters_leave():
    logits = torch.randn(1, 400, generator=torch.Generator().manual_seed(2)) * 3
    few = TopK(20).filter(logits)
    for uniform in torch.linspace(0, 1 - 1e-9, 50, dtype=torch.float64):
        alone = draw(few, uniform[None])
        assert torch.equal(alone, draw(few.expand(2, -1), uniform.expand(2))[:1])
        assert few[0, alone].isfinite()


@quick
@given(logit_rows)
def test_temperature_zero_is_greedy(row):
    logits = torch.tensor([row])
    assert torch.equal(Temperature(0).filter(logits), Greedy().filter(logits))
    (generator,) = row_generators(3, 1)
    token = Sampler.from_settings(temperature=0).sample(logits, [generator])
    assert token.item() == row.index(max(row))
    assert token.item() == Sampler.greedy().sample(logits, [generator]).item()


def test_rows_are_filtered_independently():
    logits = torch.randn(5, 11, generator=torch.Generator().manual_seed(0))
    sampler = Sampler.from_settings(temperature=0.7, top_k=6, top_p=0.8, min_p=0.05)
    together = sampler.filtered(logits)
    for row in range(5):
        assert torch.equal(together[row : row + 1], sampler.filtered(logits[row : row + 1]))


def test_filters_do_not_write_into_their_argument():
    logits = torch.randn(2, 9, generator=torch.Generator().manual_seed(0))
    before = logits.clone()
    Sampler.from_settings(
        temperature=0.5,
        top_k=3,
        top_p=0.5,
        min_p=0.2,
        typical_p=0.9,
        repetition_penalty=1.3,
        frequency_penalty=0.2,
        presence_penalty=0.1,
        no_repeat_ngram_size=2,
        logit_bias={3: 1.0},
    ).filtered(logits, History([[1, 2], [3]], vocab_size=9))
    assert torch.equal(logits, before)


def test_draws_follow_the_probabilities():
    probabilities = torch.tensor([0.5, 0.0, 0.3, 0.2])
    uniforms = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    tokens = draw(probabilities.log().expand(10_000, 4), uniforms)
    assert torch.allclose(tokens.bincount(minlength=4) / 10_000, probabilities, atol=2e-4)


@quick
@given(logit_rows, st.sampled_from([0.0, 0.3, 0.999999, 1 - 2**-53]))
def test_an_impossible_token_is_never_drawn(row, uniform):
    token = draw(torch.tensor([row]), torch.tensor([uniform], dtype=torch.float64)).item()
    assert row[token] > -math.inf


def test_the_same_seed_gives_the_same_draws_whatever_the_neighbours():
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    sampler = Sampler.from_settings(temperature=1.0)
    first = [sampler.sample(logits, generators) for generators in [row_generators(7, 3)] for _ in range(20)]
    alone = row_generators(7, 3)[2:]
    assert [tokens[2].item() for tokens in first] == [sampler.sample(logits[2:], alone).item() for _ in range(20)]
    other = row_generators(8, 3)
    assert [t.tolist() for t in first] != [sampler.sample(logits, other).tolist() for _ in range(20)]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_an_error_not_a_token(bad):
    with pytest.raises(CheckFailedError, match="not finite"):
        draw(torch.tensor([[0.0, bad]]), torch.tensor([0.5], dtype=torch.float64))


@pytest.mark.parametrize(
    "settings_",
    [
        {"temperature": -1.0},
        {"temperature": math.nan},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"min_p": -0.1},
        {"typical_p": 0.0},
        {"repetition_penalty": 0.0},
        {"frequency_penalty": math.inf},
        {"presence_penalty": math.nan},
        {"no_repeat_ngram_size": 0},
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings_):
    (name,) = settings_
    with pytest.raises(ConfigError, match=name):
        Sampler.from_settings(**settings_)


@pytest.mark.parametrize("sampler", [Sampler.greedy(), Sampler.from_settings(temperature=0, top_k=3, top_p=0.5)])
def test_a_greedy_sampler_draws_nothing_and_takes_what_drawing_would_take(sampler):
    logits = torch.randn(4, 50, generator=torch.Generator().manual_seed(1))
    logits[1, [7, 20]] = 9.0  # equal: the first
    generators = row_generators(3, 4)
    states = [generator.get_state() for generator in generators]
    tokens = sampler.sample(logits, generators)
    assert torch.equal(tokens, draw(sampler.filtered(logits), torch.full((4,), 0.5, dtype=torch.float64)))
    assert tokens[1] == 7
    assert all(torch.equal(generator.get_state(), state) for generator, state in zip(generators, states, strict=True))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_greedy_sampler_refuses_logits_that_are_not_finite(bad):
    logits = torch.zeros(2, 5)
    logits[1, 3] = bad
    with pytest.raises(CheckFailedError, match="not finite"):
        Sampler.greedy().sample(logits, row_generators(0, 2))
    with pytest.raises(CheckFailedError, match="not finite"):
        Sampler.greedy().sample(torch.full((1, 5), -float("inf")), row_generators(0, 1))
