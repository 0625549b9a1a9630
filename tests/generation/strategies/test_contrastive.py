"""Promises of contrastive search: the published ranking, on every pattern, with a state that is forked."""

import pytest
import torch

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.generate import generate, stream_tokens
from mamba_slm.generation.sampling import Sampler
from mamba_slm.generation.strategies.contrastive import ContrastiveSearch
from model.hf_models import random_tokens, varied, wrapped

PROMPTS = [random_tokens(length, seed=length).tolist() for length in (7, 2, 12)]
NEW_TOKENS = 14


def published_ranking(context_hidden, next_hidden, next_top_k_probs, alpha):
    """`ranking_fast` of SimCTG (github.com/yxuansu/SimCTG, SimCTG/utlisgpt.py) for one row."""
    norm_context = context_hidden / context_hidden.norm(dim=2, keepdim=True)
    norm_next = next_hidden / next_hidden.norm(dim=2, keepdim=True)
    cosine = torch.matmul(norm_context, norm_next.transpose(1, 2)).squeeze(-1)  # [k t]
    scores, _ = torch.max(cosine, dim=-1)
    scores = (1.0 - alpha) * next_top_k_probs.view(-1) - alpha * scores
    return int(scores.argmax()), float(scores.topk(2).values.diff().abs()) if len(scores) > 1 else 1.0


@torch.no_grad()
def published_search(kind, prompt, *, k, alpha):
    """The published algorithm with a model of transformers and no cache: every candidate reads everything anew."""
    model = wrapped(kind)
    tokens, margin = list(prompt), 1.0
    for _ in range(NEW_TOKENS):
        read = model(torch.tensor([tokens]), use_cache=False, output_hidden_states=True)
        probabilities, candidates = read.logits[0, -1].softmax(-1).topk(k)
        tried = torch.tensor([[*tokens, candidate] for candidate in candidates.tolist()])
        hidden = model(tried, use_cache=False, output_hidden_states=True).hidden_states[-1]
        context = read.hidden_states[-1].expand(k, -1, -1)
        place, gap = published_ranking(context, hidden[:, -1:], probabilities, alpha)
        margin = min(margin, gap)
        tokens.append(int(candidates[place]))
    return tuple(tokens[len(prompt) :]), margin


@pytest.mark.parametrize(
    "kind, k, alpha",
    [("only attention", 4, 0.6), ("only attention", 3, 0.9), ("portable", 4, 0.6), ("only mamba", 6, 0.2)],
)
def test_tokens_are_those_of_the_published_algorithm(kind, k, alpha):
    ours = generate(
        varied(kind), PROMPTS, max_new_tokens=NEW_TOKENS, strategy=ContrastiveSearch(k=k, alpha=alpha)
    ).completions
    greedy = generate(varied(kind), PROMPTS, max_new_tokens=NEW_TOKENS).completions
    assert [c.tokens for c in ours] != [c.tokens for c in greedy]
    for prompt, completion in zip(PROMPTS, ours, strict=True):
        expected, margin = published_search(kind, prompt, k=k, alpha=alpha)
        assert margin > 1e-5, "choose another seed: rounding could decide"
        assert completion.tokens == expected


@pytest.mark.parametrize("strategy", [ContrastiveSearch(k=1), ContrastiveSearch(k=4, alpha=0.0)])
def test_without_a_penalty_or_a_choice_it_is_greedy(strategy):
    model = varied("portable")
    greedy = generate(model, PROMPTS, max_new_tokens=NEW_TOKENS).completions
    assert generate(model, PROMPTS, max_new_tokens=NEW_TOKENS, strategy=strategy).completions == greedy


def test_rows_end_by_themselves_and_the_others_go_on():
    model, strategy = varied("portable"), ContrastiveSearch()
    free = generate(model, PROMPTS, max_new_tokens=10, strategy=strategy).completions
    eos = free[0].tokens[3]
    ended = generate(model, PROMPTS, max_new_tokens=10, strategy=strategy, eos_id=eos).completions
    for before, after in zip(free, ended, strict=True):
        cut = before.tokens.index(eos) if eos in before.tokens else 10
        assert after.tokens == before.tokens[:cut]


def test_a_state_is_advanced_to_all_but_the_last_token():
    model, strategy = varied("portable"), ContrastiveSearch()
    (whole,) = generate(model, PROMPTS[:1], max_new_tokens=8, strategy=strategy).completions
    state = model.new_state(1)
    stream = stream_tokens(model, PROMPTS[:1], max_new_tokens=8, strategy=strategy, state=state)
    tokens = []
    for event in stream:
        tokens.append(event.token)
        assert state.num_tokens.tolist() == [len(PROMPTS[0]) + len(tokens) - 1]
    assert tuple(tokens) == whole.tokens
    next_greedy = generate(model, [PROMPTS[0] + tokens], max_new_tokens=4).completions[0].tokens
    after = stream_tokens(model, [tokens[-1:]], max_new_tokens=4, state=state)
    assert tuple(event.token for event in after) == next_greedy


@pytest.mark.parametrize(
    "strategy, arguments, message",
    [
        ({"k": 0}, {}, "at least 1 candidate"),
        ({"alpha": 1.5}, {}, "alpha"),
        ({}, {"samples_per_prompt": 2}, "one result per prompt"),
        ({}, {"sampler": Sampler.from_settings(temperature=1.0)}, "does not draw"),
    ],
)
def test_what_it_cannot_do_is_refused(strategy, arguments, message):
    with pytest.raises(ConfigError, match=message):
        generate(varied("portable"), PROMPTS, max_new_tokens=1, strategy=ContrastiveSearch(**strategy), **arguments)
