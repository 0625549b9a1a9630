"""Promises of beam search: transformers' results, in batches, with penalties, states and end tokens."""

import pytest
import torch

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.generate import generate, stream_tokens
from mamba_slm.generation.sampling import Sampler
from mamba_slm.generation.strategies.beam import BeamSearch
from model.hf_models import random_tokens, varied, wrapped
from tolerances import tolerance_of

PROMPTS = [random_tokens(length, seed=length).tolist() for length in (7, 2, 12)]
NEW_TOKENS = 16
STOPPING = {"likely": False, "full": True, "never": "never"}


def theirs(kind, prompt, *, beams, results, eos, **settings):
    """Rows and scores of transformers' `generate`."""
    found = wrapped(kind).generate(
        torch.tensor([prompt]),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        num_beams=beams,
        num_return_sequences=results,
        eos_token_id=eos,
        pad_token_id=3,
        output_scores=True,
        return_dict_in_generate=True,
        **settings,
    )
    rows = []
    for row in found.sequences[:, len(prompt) :].tolist():
        ends = [row.index(token) for token in eos or [] if token in row]
        rows.append(tuple(row[: min(ends)] if ends else row))
    return rows, found.sequences_scores.tolist()


@pytest.mark.parametrize(
    "kind, beams, results, length_penalty, stopping, num_eos",
    [
        ("portable", 3, 1, 1.0, "likely", 0),
        ("portable", 4, 4, 0.5, "likely", 1),
        ("portable", 2, 2, 1.0, "never", 3),
        ("portable", 5, 3, -1.0, "full", 1),
        ("only attention", 4, 2, 2.0, "full", 3),
        ("only mamba", 4, 4, 0.5, "likely", 1),
    ],
)
def test_results_and_scores_are_those_of_transformers(kind, beams, results, length_penalty, stopping, num_eos):
    model = varied(kind)
    likely = generate(model, PROMPTS[:1], max_new_tokens=NEW_TOKENS).completions[0].tokens
    eos = list(dict.fromkeys(likely))[-num_eos:] if num_eos else []
    strategy = BeamSearch(beams=beams, length_penalty=length_penalty, early_stopping=stopping)
    ours = generate(
        model, PROMPTS, max_new_tokens=NEW_TOKENS, stop_ids=eos, samples_per_prompt=results, strategy=strategy
    ).completions
    for number, prompt in enumerate(PROMPTS):
        rows, scores = theirs(
            kind, prompt, beams=beams, results=results, eos=eos or None,
            length_penalty=length_penalty, early_stopping=STOPPING[stopping],
        )  # fmt: skip
        mine = ours[number * results : (number + 1) * results]
        assert [completion.tokens for completion in mine] == rows
        assert [completion.score for completion in mine] == pytest.approx(scores, rel=tolerance_of("oracle").values)


def test_penalties_work_on_the_beams_own_histories():
    settings = {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2}
    sampler = Sampler.from_settings(temperature=0, **settings)
    ours = generate(
        varied("portable"), PROMPTS, max_new_tokens=NEW_TOKENS, sampler=sampler, strategy=BeamSearch(beams=3)
    ).completions
    for prompt, completion in zip(PROMPTS, ours, strict=True):
        rows, _ = theirs("portable", prompt, beams=3, results=1, eos=None, **settings)
        assert [completion.tokens] == rows


def test_one_beam_is_greedy():
    model = varied("portable")
    greedy = generate(model, PROMPTS, max_new_tokens=NEW_TOKENS).completions
    one = generate(model, PROMPTS, max_new_tokens=NEW_TOKENS, strategy=BeamSearch(beams=1)).completions
    assert [completion.tokens for completion in one] == [completion.tokens for completion in greedy]


def test_a_full_context_ends_a_search():
    model = varied("portable")
    (completion,) = generate(
        model, [[5] * 90], max_new_tokens=NEW_TOKENS, strategy=BeamSearch(beams=3, early_stopping="never")
    ).completions
    assert (len(completion.tokens), completion.finish_reason) == (6, "context")


def test_a_state_goes_on_from_the_result_that_was_delivered():
    model, strategy = varied("portable"), BeamSearch(beams=3)
    (whole,) = generate(model, PROMPTS[:1], max_new_tokens=8, strategy=strategy).completions
    state = model.new_state(1)
    first = [
        event.token for event in stream_tokens(model, PROMPTS[:1], max_new_tokens=8, strategy=strategy, state=state)
    ]
    assert tuple(first) == whole.tokens
    assert state.num_tokens.tolist() == [len(PROMPTS[0]) + 7]
    next_greedy = generate(model, [PROMPTS[0] + first], max_new_tokens=4).completions[0].tokens
    assert (
        tuple(event.token for event in stream_tokens(model, [first[-1:]], max_new_tokens=4, state=state)) == next_greedy
    )


def test_a_row_that_is_stopped_delivers_no_more():
    stream = stream_tokens(varied("portable"), PROMPTS, max_new_tokens=5, strategy=BeamSearch(beams=2))
    rows = []
    for event in stream:
        rows.append(event.row)
        if event.row == 1:
            stream.stop_row(1)
    assert sorted(rows) == [0] * 5 + [1] + [2] * 5


@pytest.mark.parametrize(
    "strategy, arguments, message",
    [
        ({"beams": 0}, {}, "beams must be at least 1"),
        ({"early_stopping": "maybe"}, {}, "early_stopping"),
        ({"beams": 2}, {"samples_per_prompt": 3}, "2 beams"),
        ({}, {"sampler": Sampler.from_settings(temperature=1.0)}, "does not draw"),
    ],
)
def test_what_beams_cannot_do_is_refused(strategy, arguments, message):
    with pytest.raises(ConfigError, match=message):
        generate(varied("portable"), PROMPTS, max_new_tokens=1, strategy=BeamSearch(**strategy), **arguments)
