"""Promises of the filters, as properties."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import TypicalLogitsWarper

from mamba_slm.generation.strategies.filters import MinP, Temperature, TopK, TopP, Typical

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
@given(logit_rows, st.floats(0.01, 0.999))
def test_typical_keeps_the_fewest_tokens_whose_surprise_is_nearest_to_the_entropy(row, p):
    logits = torch.tensor([row])
    probabilities = logits.double().softmax(-1)[0]
    possible = probabilities > 0
    surprise = -probabilities.clamp_min(1e-300).log()
    distance = (surprise - (probabilities * surprise)[possible].sum()).abs()
    mask = kept(Typical(p), logits)[0]
    mass = probabilities[mask].sum()
    assert mass >= p - 1e-12
    assert (mask & ~possible).sum() == 0
    farthest = distance[mask].max()
    assert mask.sum() == 1 or probabilities[mask & (distance < farthest - 1e-9)].sum() < p + 1e-12
    if (~mask & possible).any():
        assert farthest <= distance[~mask & possible].min() + 1e-9


@pytest.mark.parametrize("p", [0.2, 0.6, 0.95])
def test_typical_keeps_what_transformers_keeps(p):
    logits = torch.randn(6, 500, generator=torch.Generator().manual_seed(2)) * 3
    theirs = TypicalLogitsWarper(mass=p)(None, logits)
    assert torch.equal(Typical(p).filter(logits).isfinite(), theirs.isfinite())


@pytest.mark.parametrize("temperature", [5e-324, 1e-38, 1e-6, 0.5, 1.0, 3.0])
def test_temperature_never_makes_logits_overflow(temperature):
    logits = torch.tensor([[1e30, 0.0, -1e30]])
    assert Temperature(temperature).filter(logits).softmax(-1)[0].tolist() == [1.0, 0.0, 0.0]


def test_filters_that_keep_everything_change_nothing():
    logits = torch.tensor([[0.3, -2.0, -math.inf, 4.0]])
    for filter_ in (TopK(4), TopK(400), TopP(1.0), MinP(0.0), Typical(1.0)):
        assert torch.equal(filter_.filter(logits), logits)
