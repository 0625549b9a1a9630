"""Promises of the samplers, as properties."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import CheckFailedError, ConfigError
from mamba_slm.generation.sampling import (
    Greedy,
    MinP,
    RepetitionPenalty,
    Sampler,
    Temperature,
    TopK,
    TopP,
    draw,
    row_generators,
)

# Few distinct values, so that ties are common.
logit_rows = st.lists(st.sampled_from([-math.inf, -3.0, -1.0, 0.0, 0.5, 2.0, 7.5]), min_size=1, max_size=12).filter(
    lambda row: max(row) > -math.inf
)
quick = settings(max_examples=150, deadline=None)


def kept(filter_, logits):
    return filter_.filter(logits).isfinite()


@quick
@given(logit_rows, st.floats(0.01, 0.999))
def test_top_p_keeps_the_smallest_sufficient_set(row, p):
    logits = torch.tensor([row])
    probabilities = logits.double().softmax(-1)[0]
    mask = kept(TopP(p), logits)[0]
    mass = probabilities[mask].sum()
    assert mass >= p - 1e-12
    assert mask.sum() == 1 or mass - probabilities[mask].min() < p + 1e-12
    if (~mask).any():
        assert probabilities[mask].min() >= probabilities[~mask].max()


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("probabilities", [[0.9, 0.05, 0.05], [0.4, 0.35, 0.25]])
def test_top_p_holds_on_the_two_cases_other_samplers_fail(probabilities, p):
    probabilities = torch.tensor([probabilities])
    mass = probabilities[kept(TopP(p), probabilities.log())]
    assert mass.sum() >= p
    assert mass.sum() - mass.min() < p


@pytest.mark.parametrize("p", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("scale", [0.0, 0.1, 1.0, 4.0])
def test_top_p_of_a_large_vocabulary_is_that_of_a_sort_of_all_of_it(p, scale):
    logits = torch.randn(3, 5000, generator=torch.Generator().manual_seed(1)) * scale
    logits[0, ::2] = -math.inf
    logits[1] = logits[1].round()  # many ties
    filtered = TopP(p).filter(logits)
    for row in range(3):
        order = logits[row].sort(descending=True, stable=True).indices
        probabilities = logits[row].double().softmax(-1)[order]
        expected = order[probabilities.cumsum(-1) - probabilities < p]
        found = filtered[row].isfinite().nonzero()[:, 0]
        assert abs(len(found) - len(expected)) <= 1  # the sums may round to either side of p
        common = min(len(found), len(expected))
        assert set(expected[:common].tolist()) <= set(found.tolist())
        assert torch.equal(filtered[row, found], logits[row, found])


def test_a_draw_is_the_same_from_the_few_tokens_that_filters_leave():
    logits = torch.randn(1, 400, generator=torch.Generator().manual_seed(2)) * 3
    few = TopK(20).filter(logits)
    for uniform in torch.linspace(0, 1 - 1e-9, 50, dtype=torch.float64):
        alone = draw(few, uniform[None])
        assert torch.equal(alone, draw(few.expand(2, -1), uniform.expand(2))[:1])
        assert few[0, alone].isfinite()


@quick
@given(logit_rows, st.integers(1, 20))
def test_top_k_keeps_exactly_k_and_the_lower_ids_of_a_tie(row, k):
    logits = torch.tensor([row])
    mask = kept(TopK(k), logits)[0]
    expected = sorted(range(len(row)), key=lambda i: (-row[i], i))[:k]
    assert mask.nonzero().flatten().tolist() == sorted(i for i in expected if row[i] > -math.inf)


@quick
@given(logit_rows, st.floats(0.0, 1.0))
def test_min_p_keeps_what_is_likely_enough_beside_the_best(row, p):
    logits = torch.tensor([row])
    probabilities = logits.double().softmax(-1)[0]
    mask = kept(MinP(p), logits)[0]
    threshold = p * probabilities.max()
    assert (probabilities[mask] >= threshold * (1 - 1e-5)).all()
    assert (probabilities[~mask] <= threshold * (1 + 1e-5)).all()
    assert mask[probabilities.argmax()]


@quick
@given(logit_rows)
def test_temperature_zero_is_greedy(row):
    logits = torch.tensor([row])
    assert torch.equal(Temperature(0).filter(logits), Greedy().filter(logits))
    (generator,) = row_generators(3, 1)
    token = Sampler.from_settings(temperature=0).sample(logits, [generator])
    assert token.item() == row.index(max(row))
    assert token.item() == Sampler.greedy().sample(logits, [generator]).item()


@pytest.mark.parametrize("temperature", [1e-38, 1e-6, 0.5, 1.0, 3.0])
def test_temperature_never_makes_logits_overflow(temperature):
    logits = torch.tensor([[1e30, 0.0, -1e30]])
    assert Temperature(temperature).filter(logits).softmax(-1)[0].tolist() == [1.0, 0.0, 0.0]


def test_filters_that_keep_everything_change_nothing():
    logits = torch.tensor([[0.3, -2.0, -math.inf, 4.0]])
    for filter_ in (TopK(4), TopK(400), TopP(1.0), MinP(0.0)):
        assert torch.equal(filter_.filter(logits), logits)


def test_rows_are_filtered_independently():
    logits = torch.randn(5, 11, generator=torch.Generator().manual_seed(0))
    sampler = Sampler.from_settings(temperature=0.7, top_k=6, top_p=0.8, min_p=0.05)
    together = sampler.filtered(logits)
    for row in range(5):
        assert torch.equal(together[row : row + 1], sampler.filtered(logits[row : row + 1]))


def test_filters_do_not_write_into_their_argument():
    logits = torch.randn(2, 9, generator=torch.Generator().manual_seed(0))
    before = logits.clone()
    Sampler.from_settings(temperature=0.5, top_k=3, top_p=0.5, min_p=0.2, repetition_penalty=1.3).filtered(
        logits, seen=torch.ones(2, 9, dtype=torch.bool)
    )
    assert torch.equal(logits, before)


def test_repetition_penalty_lowers_seen_tokens_of_either_sign_and_leaves_the_rest():
    logits = torch.tensor([[2.0, -2.0, 2.0, -2.0, -math.inf]])
    seen = torch.tensor([[True, True, False, False, True]])
    assert RepetitionPenalty(2.0).apply(logits, seen).tolist() == [[1.0, -4.0, 2.0, -2.0, -math.inf]]


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
        {"repetition_penalty": 0.0},
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
