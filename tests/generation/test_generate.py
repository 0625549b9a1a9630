"""Promises of the decode loop: what it returns is what the model says, alone or in a batch, in pieces or whole."""

import weakref

import pytest
import torch

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation import prefill as module
from mamba_slm.generation.generate import generate, stream_tokens
from mamba_slm.generation.prefill import right_padded
from mamba_slm.generation.runtime import TorchRuntime
from mamba_slm.generation.sampling import Sampler
from mamba_slm.generation.strategies.beam import BeamSearch
from mamba_slm.generation.strategies.best_of import BestOf
from mamba_slm.generation.strategies.separate import Separate
from small_models import varied_model
from tolerances import assert_close, tolerance_of

CONTEXT = 48
PROMPTS = [[1, 5, 9, 3], [2], [7, 7, 8, 1, 4, 4, 6, 30, 2, 11, 12]]


@pytest.fixture(scope="module")
def model():
    return varied_model(vocab_size=40, max_context_tokens=CONTEXT)


def greedy_by_definition(model, prompt, count):
    """Argmax of a whole forward pass, again and again, without a state; also the smallest margin to the second best."""
    tokens, margin = list(prompt), float("inf")
    for _ in range(count):
        with torch.no_grad():
            best = model(torch.tensor([tokens]))[0, -1].topk(2).values
            tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
        margin = min(margin, float(best[0] - best[1]))
    return tuple(tokens[len(prompt) :]), margin


@pytest.mark.parametrize("prompt", PROMPTS, ids=len)
def test_greedy_is_the_argmax_of_whole_forward_passes(model, prompt):
    expected, margin = greedy_by_definition(model, prompt, 12)
    assert margin > 1e-3, "choose another seed: rounding could decide"
    (completion,) = generate(model, [prompt], max_new_tokens=12).completions
    assert completion.tokens == expected
    assert completion.finish_reason == "length"
    assert completion.prompt_tokens == len(prompt)


def test_prompts_of_different_lengths_in_one_batch_return_what_they_return_alone(model):
    together = generate(model, PROMPTS, max_new_tokens=10)
    alone = [generate(model, [prompt], max_new_tokens=10).completions[0] for prompt in PROMPTS]
    assert list(together.completions) == alone


def test_samples_in_a_batch_are_those_of_the_seed_and_the_row(model):
    sampler = Sampler.from_settings(temperature=1.0)
    settings = {"max_new_tokens": 8, "sampler": sampler, "seed": 5}
    batch = generate(model, PROMPTS, **settings).completions
    assert batch[0] == generate(model, PROMPTS[:1], **settings).completions[0]
    assert batch == generate(model, PROMPTS, **settings).completions
    assert batch != generate(model, PROMPTS, **{**settings, "seed": 6}).completions


def test_several_samples_of_a_prompt_read_it_once_and_equal_a_batch_of_copies(model):
    settings = {"max_new_tokens": 6, "sampler": Sampler.from_settings(temperature=1.0), "seed": 1}
    forked = generate(model, PROMPTS[:2], samples_per_prompt=3, **settings)
    copies = generate(model, [prompt for prompt in PROMPTS[:2] for _ in range(3)], **settings)
    assert forked.completions == copies.completions
    assert len({completion.tokens for completion in forked.completions[:3]}) > 1
    assert forked.timing.prefill_tokens == len(PROMPTS[0]) + len(PROMPTS[1])


@pytest.mark.parametrize("piece_tokens", [1, 3, 8])
def test_a_prompt_may_be_prefilled_in_pieces(model, monkeypatch, piece_tokens):
    whole = generate(model, PROMPTS, max_new_tokens=6).completions
    monkeypatch.setattr(module, "PREFILL_PIECE_TOKENS", piece_tokens)
    assert generate(model, PROMPTS, max_new_tokens=6).completions == whole


def test_rows_end_at_the_end_token_and_the_others_go_on(model):
    free = generate(model, PROMPTS, max_new_tokens=10).completions
    eos = free[0].tokens[3]
    ended = generate(model, PROMPTS, max_new_tokens=10, eos_id=eos).completions
    for before, after in zip(free, ended, strict=True):
        cut = before.tokens.index(eos) if eos in before.tokens else 10
        assert after.tokens == before.tokens[:cut]
        assert after.finish_reason == ("eos" if cut < 10 else "length")
    assert len(ended[0].tokens) <= 3


def test_a_stop_token_ends_a_row_and_is_named(model):
    free = generate(model, PROMPTS[:1], max_new_tokens=10).completions[0]
    stop = free.tokens[4]
    (completion,) = generate(model, PROMPTS[:1], max_new_tokens=10, stop_ids=[stop]).completions
    assert completion.tokens == free.tokens[: free.tokens.index(stop)]
    assert completion.finish_reason == "stop_token"


def test_generation_stops_when_the_context_is_full_and_says_so(model):
    long, short = [3] * (CONTEXT - 4), [3]
    result = generate(model, [long, short], max_new_tokens=9).completions
    assert (len(result[0].tokens), result[0].finish_reason) == (4, "context")
    assert (len(result[1].tokens), result[1].finish_reason) == (9, "length")


def test_a_prompt_that_fills_the_context_is_an_error_that_says_by_how_much(model):
    with pytest.raises(ConfigError, match="leaves no room in the model's context of 48 tokens") as caught:
        generate(model, [[1], [3] * (CONTEXT + 1)], max_new_tokens=1)
    assert "prompt 2" in caught.value.message
    assert "at least 2 tokens" in caught.value.hint


@pytest.mark.parametrize(
    "prompts, arguments, message",
    [
        ([], {}, "no prompt"),
        ([[1], []], {}, "prompt 2 has no tokens"),
        ([[40]], {}, "token 40, but the model's vocabulary has 40"),
        ([[1]], {"max_new_tokens": 0}, "max_new_tokens"),
        ([[1]], {"samples_per_prompt": 0}, "samples"),
    ],
)
def test_what_cannot_be_continued_is_refused(model, prompts, arguments, message):
    with pytest.raises(ConfigError, match=message):
        generate(model, prompts, **{"max_new_tokens": 1, **arguments})


def test_tokens_arrive_one_step_at_a_time_and_a_row_can_be_stopped_from_outside(model):
    stream = stream_tokens(model, PROMPTS, max_new_tokens=5)
    rows = []
    for event in stream:
        rows.append(event.row)
        if event.row == 1:
            stream.stop_row(1)
    assert rows == [0, 1, 2, 0, 2, 0, 2, 0, 2, 0, 2]


def test_a_state_carries_a_sequence_from_one_stream_to_the_next(model):
    whole = generate(model, [PROMPTS[2]], max_new_tokens=9).completions[0].tokens
    state = model.new_state(1)
    first = [event.token for event in stream_tokens(model, [PROMPTS[2]], max_new_tokens=4, state=state)]
    assert state.num_tokens.tolist() == [len(PROMPTS[2]) + 3]  # all but the last token
    second = stream_tokens(model, [first[-1:]], max_new_tokens=5, state=state)
    assert tuple(first + [event.token for event in second]) == whole
    assert second.timing.prefill_tokens == 1


def test_tokens_read_earlier_count_for_the_context(model):
    state = model.new_state(1)
    list(stream_tokens(model, [[1] * 40], max_new_tokens=1, state=state))
    with pytest.raises(ConfigError, match=r"40 \+ 8 tokens"):
        stream_tokens(model, [[1] * 8], max_new_tokens=1, state=state)
    assert [event.finish_reason for event in stream_tokens(model, [[1] * 7], max_new_tokens=5, state=state)] == [
        "context"
    ]


def test_a_repetition_penalty_sees_the_prompt_and_what_was_made(model):
    free = generate(model, PROMPTS, max_new_tokens=20).completions
    assert any(len(set(completion.tokens)) < 20 for completion in free)
    never_again = Sampler.from_settings(temperature=0, repetition_penalty=1e9)
    for prompt, completion in zip(
        PROMPTS, generate(model, PROMPTS, max_new_tokens=20, sampler=never_again).completions, strict=True
    ):
        assert len(set(completion.tokens)) == 20
        assert not set(completion.tokens) & set(prompt)


def test_timing_counts_real_tokens_only(model):
    timing = generate(model, PROMPTS, max_new_tokens=5).timing
    assert timing.prefill_tokens == sum(map(len, PROMPTS))
    assert timing.decode_tokens == 4 * len(PROMPTS)
    assert timing.prefill_tokens_per_second > 0
    assert timing.decode_tokens_per_second > 0


def test_padding_stands_on_the_right_and_is_masked():
    tokens, mask = right_padded([[1, 2], [3, 4, 5]], device=torch.device("cpu"))
    assert tokens.tolist() == [[1, 2, 0], [3, 4, 5]]
    assert mask.tolist() == [[True, True, False], [True, True, True]]


def test_leaving_a_stream_frees_its_state_at_once(model):
    states = []
    runtime = TorchRuntime(model)
    new_state = runtime.new_state
    runtime.new_state = lambda rows: remembered(new_state(rows), states)
    for strategy in (None, BeamSearch(beams=2), BestOf(draws=2), Separate()):
        events = iter(stream_tokens(runtime, PROMPTS, max_new_tokens=9, strategy=strategy))
        next(events)
        events.close()
    assert len(states) >= 4
    assert [state() for state in states] == [None] * len(states)


def remembered(state, states):
    states.append(weakref.ref(state))
    return state


def test_a_callback_sees_every_token_and_logprobs_are_those_of_the_model(model):
    seen = []
    result = generate(model, PROMPTS[:1], max_new_tokens=6, on_token=seen.append)
    assert tuple(event.token for event in seen) == result.completions[0].tokens
    sampler = Sampler.from_settings(temperature=0.7, top_k=5, presence_penalty=1.0)
    events = list(stream_tokens(model, PROMPTS[:1], max_new_tokens=6, sampler=sampler, logprobs=True))
    whole = torch.tensor([PROMPTS[0] + [event.token for event in events]])
    with torch.no_grad():
        expected = model(whole)[0].log_softmax(-1)[range(len(PROMPTS[0]) - 1, whole.shape[1] - 1), whole[0, -6:]]
    assert_close(torch.tensor([event.logprob for event in events]), expected, tolerance_of("model").values)


def test_rows_of_a_longer_list_may_be_made_in_parts(model):
    settings = {"max_new_tokens": 8, "sampler": Sampler.from_settings(temperature=1.0), "seed": 5}
    whole = generate(model, PROMPTS, **settings).completions
    part = stream_tokens(model, PROMPTS[1:], first_row=1, **settings)
    assert tuple(event.token for event in part if event.row == 0) == whole[1].tokens
