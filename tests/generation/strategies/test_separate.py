"""Promises of batch-invariant runs: every bit of a row is what it is alone."""

import pytest
import torch

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.generate import generate, stream_tokens
from mamba_slm.generation.sampling import Sampler
from mamba_slm.generation.strategies.beam import BeamSearch
from mamba_slm.generation.strategies.separate import Separate
from model.hf_models import random_tokens, varied

PROMPTS = [random_tokens(length, seed=length).tolist() for length in (7, 2, 12, 5)]


@pytest.mark.parametrize("inner, samples", [(None, 1), (None, 2), (BeamSearch(beams=3), 2)])
def test_tokens_logprobs_and_scores_of_a_batch_equal_those_of_single_runs_to_the_last_bit(inner, samples):
    model = varied("portable")
    sampler = Sampler.from_settings(temperature=0 if inner else 1.0)
    settings = {"max_new_tokens": 9, "sampler": sampler, "seed": 4, "strategy": Separate(strategy=inner)}
    batch = stream_tokens(model, PROMPTS, logprobs=True, samples_per_prompt=samples, **settings)
    rows = {row: [] for row in range(batch.num_rows)}
    for event in batch:
        rows[event.row].append((event.token, event.logprob))
    for number, prompt in enumerate(PROMPTS):
        alone = stream_tokens(
            model, [prompt], logprobs=True, samples_per_prompt=samples, first_row=number * samples, **settings
        )
        mine = {row: [] for row in range(samples)}
        for event in alone:
            mine[event.row].append((event.token, event.logprob))
        for row in range(samples):
            assert rows[number * samples + row] == mine[row]
            assert batch.score(number * samples + row) == alone.score(row)


def test_it_calls_the_model_with_one_row_only():
    model = varied("portable")
    sizes = set()
    model.register_forward_pre_hook(lambda module, args: sizes.add(args[0].shape[0]))
    stream = stream_tokens(model, PROMPTS, max_new_tokens=4, strategy=Separate())
    assert [event.row for event in stream] == [0, 1, 2, 3] * 4
    assert sizes == {1}
    assert stream.timing.prefill_tokens == sum(map(len, PROMPTS))


def test_greedy_rows_are_those_of_a_batch_and_a_row_can_be_stopped():
    model = varied("portable")
    settings = {"max_new_tokens": 9}
    separate = generate(model, PROMPTS, strategy=Separate(), **settings).completions
    assert separate == generate(model, PROMPTS, **settings).completions
    stream = stream_tokens(model, PROMPTS, strategy=Separate(), **settings)
    rows = []
    for event in stream:
        rows.append(event.row)
        stream.stop_row(1)
    assert rows.count(1) == 1
    assert rows.count(2) == 9


def test_a_state_of_several_rows_is_refused():
    model = varied("portable")
    with pytest.raises(ConfigError, match="one row only"):
        stream_tokens(model, PROMPTS, max_new_tokens=2, strategy=Separate(), state=model.new_state(4))
    state = model.new_state(1)
    events = list(stream_tokens(model, PROMPTS[:1], max_new_tokens=2, strategy=Separate(), state=state))
    assert len(events) == 2
    assert torch.equal(state.num_tokens, torch.tensor([len(PROMPTS[0]) + 1]))
