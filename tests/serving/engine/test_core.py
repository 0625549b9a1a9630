"""Promises of the engine: what a request returns does not depend on what else runs, and everything is given back."""

import pytest
import torch

from mamba_slm.core.errors import CheckFailedError, ConfigError
from mamba_slm.generation.generate import generate
from mamba_slm.generation.sampling import Sampler
from mamba_slm.generation.text import generate_text, prompt_tokens
from mamba_slm.serving.cache.prefix_cache import CacheSettings
from mamba_slm.serving.engine import core
from mamba_slm.serving.engine.core import QueueFullError
from mamba_slm.serving.engine.request import Failure
from serving.engines import Engine, random_prompts
from small_models import small_tokenizer, varied_model

MODEL = varied_model(max_context_tokens=96).eval().requires_grad_(False)
PROMPTS = random_prompts([5, 1, 17, 33, 8, 40, 2, 25])


def alone(prompt, max_new_tokens=8, **settings):
    return list(generate(MODEL, [prompt], max_new_tokens=max_new_tokens, **settings).completions[0].tokens)


def nothing_is_held(engine):
    """Whether all memory is free when the cache gives its share up, too."""
    engine.core.cache.clear()
    blocks = engine.pool.blocks
    return engine.pool.num_free_slots == engine.settings.max_running and blocks.num_free == blocks.count


def test_requests_that_come_and_go_return_what_each_returns_alone():
    engine = Engine(MODEL)
    numbers = []
    for place, prompt in enumerate(PROMPTS):  # more than there are slots, arriving while others run
        numbers.append(engine.submit(prompt, 4 + place))
        engine.core.step()
    engine.run()
    for place, (number, prompt) in enumerate(zip(numbers, PROMPTS, strict=True)):
        assert engine.tokens(number) == alone(prompt, 4 + place)
        assert engine.last(number).finish_reason == "length"
    assert nothing_is_held(engine)


def test_a_request_returns_the_same_to_the_last_bit_in_batch_invariant_mode():
    prompts = random_prompts([3 + 7 * n % 60 for n in range(20)], seed=5)
    sampler = Sampler.from_settings(temperature=1.0, top_p=0.9)
    settings = {"batch_invariant": True, "max_running": 8}

    def results(engine, numbers):
        return [[(a.token, a.logprob.logprob) for a in engine.answers[number]] for number in numbers]

    def submit(engine, place):
        chosen = {"sampler": sampler} if place % 2 else {}
        return engine.submit(prompts[place], 6, logprobs=0, seed=place, **chosen)

    together = Engine(MODEL, **settings)
    numbers = [submit(together, place) for place in range(len(prompts))]
    together.run()
    for place, result in enumerate(results(together, numbers)):
        single = Engine(MODEL, **settings)
        number = submit(single, place)
        single.run()
        assert results(single, [number]) == [result]


def test_draws_depend_on_the_seed_of_the_request_alone():
    sampler = Sampler.from_settings(temperature=1.0)
    engine = Engine(MODEL)
    numbers = [engine.submit(prompt, 6, sampler=sampler, seed=3) for prompt in PROMPTS]
    engine.run()
    for number, prompt in zip(numbers, PROMPTS, strict=True):
        assert engine.tokens(number) == alone(prompt, 6, sampler=sampler, seed=3)


def test_penalties_know_the_history_of_their_own_request():
    sampler = Sampler.from_settings(temperature=0, repetition_penalty=1.7, frequency_penalty=0.5)
    engine = Engine(MODEL)
    numbers = [engine.submit(prompt, 10, sampler=sampler) for prompt in PROMPTS[:4]]
    engine.run()
    for number, prompt in zip(numbers, PROMPTS, strict=False):
        assert engine.tokens(number) == alone(prompt, 10, sampler=sampler)


def test_a_request_of_higher_priority_takes_a_slot_and_the_other_goes_on_with_its_state():
    engine = Engine(MODEL, max_running=1, step_tokens=64)
    read = []
    original = engine.executor.read
    engine.executor.read = lambda pieces: read.extend(len(piece.tokens) for piece in pieces) or original(pieces)
    low = engine.submit(PROMPTS[3], 12, priority=1, use_cache=False)
    for _ in range(5):
        engine.core.step()
    high = engine.submit(PROMPTS[2], 3, use_cache=False)
    engine.run()
    assert engine.tokens(low) == alone(PROMPTS[3], 12) and engine.tokens(high) == alone(PROMPTS[2], 3)
    assert engine.last(low).usage.suspensions == engine.core.suspensions == 1
    assert sum(read) == len(PROMPTS[3]) + len(PROMPTS[2])  # nothing was read twice
    assert nothing_is_held(engine)


def test_requests_that_outgrow_the_memory_wait_for_each_other_and_lose_nothing():
    longest = -(-MODEL.config.max_context_tokens // 8)
    engine = Engine(MODEL, blocks=longest, cache=CacheSettings(max_bytes=0))
    numbers = [engine.submit(prompt, 40) for prompt in PROMPTS[:4]]
    engine.run()
    for number, prompt in zip(numbers, PROMPTS, strict=False):
        assert engine.tokens(number) == alone(prompt, 40)
    assert engine.core.suspensions > 0
    assert nothing_is_held(engine)


def test_the_cache_gives_its_memory_up_before_a_request_has_to_wait():
    longest = -(-MODEL.config.max_context_tokens // 8)
    engine = Engine(MODEL, blocks=longest)
    for prompt in PROMPTS:
        assert engine.ask(prompt, 30) == alone(prompt, 30)
    assert engine.core.suspensions == 0 and engine.core.cache.counts.evicted > 0
    assert nothing_is_held(engine)


def test_long_prompts_are_read_in_pieces_between_which_others_make_tokens():
    engine = Engine(MODEL, step_tokens=8, cache=CacheSettings(max_bytes=0))
    first = engine.submit(PROMPTS[0], 20)
    for _ in range(2):
        engine.core.step()
    before = len(engine.answers[first])
    long = engine.submit(PROMPTS[5], 2)
    while not engine.answers[long]:
        engine.core.step()
    assert len(engine.answers[first]) - before >= len(PROMPTS[5]) // 8
    engine.run()
    assert engine.tokens(long) == alone(PROMPTS[5], 2)


def test_cancelling_frees_the_memory_within_the_step_and_disturbs_nobody():
    engine = Engine(MODEL, cache=CacheSettings(max_bytes=0))
    numbers = [engine.submit(prompt, 20) for prompt in PROMPTS[:6]]
    for _ in range(4):
        engine.core.step()
    for number in (numbers[0], numbers[5]):  # one that runs, one that may wait
        engine.core.cancel(number)
    heard = len(engine.answers[numbers[0]])
    engine.run()
    assert len(engine.answers[numbers[0]]) == heard
    for place in (1, 2, 3, 4):
        assert engine.tokens(numbers[place]) == alone(PROMPTS[place], 20)
    assert nothing_is_held(engine)


def test_text_is_cut_at_stop_strings_and_characters_are_never_torn():
    tokenizer = small_tokenizer()
    prompt = "def naïve("
    for stops in ((), ("e",), ("\n", "x")):
        expected = generate_text(MODEL, tokenizer, [prompt], max_new_tokens=20, stops=stops)[0][0]
        engine = Engine(MODEL, tokenizer=tokenizer)
        number = engine.submit(prompt_tokens(tokenizer, prompt), 20, stops=stops, eos_id=tokenizer.eos_id)
        engine.run()
        assert engine.text(number) == expected.text
        assert engine.last(number).finish_reason == expected.finish_reason
        assert engine.last(number).usage.new_tokens == expected.num_tokens


def test_end_tokens_end_a_text_and_a_full_context_does():
    free = alone(PROMPTS[2], 8)
    engine = Engine(MODEL)
    assert engine.ask(PROMPTS[2], 8, stop_ids=frozenset({free[4]})) == free[: free.index(free[4]) + 1]
    number = engine.submit(random_prompts([90])[0], 50)
    engine.run()
    assert len(engine.tokens(number)) == 6 and engine.last(number).finish_reason == "context"


def test_logprobs_are_those_of_the_model():
    engine = Engine(MODEL)
    number = engine.submit(PROMPTS[2], 3, logprobs=4)
    engine.run()
    tokens = list(PROMPTS[2])
    for answer in engine.answers[number]:
        expected = MODEL(torch.tensor([tokens]))[0, -1].detach().log_softmax(-1)
        assert answer.logprob.token == answer.token
        assert answer.logprob.logprob == pytest.approx(float(expected[answer.token]), abs=1e-4)
        assert [one.token for one in answer.top] == expected.topk(4).indices.tolist()
        tokens.append(answer.token)


def test_a_request_that_cannot_go_on_fails_alone():
    class Refuses:
        def process(self, logits, history):
            raise ConfigError("nothing is allowed")

    engine = Engine(MODEL)
    bad = engine.submit(PROMPTS[0], 5, sampler=Sampler.from_settings(constraint=Refuses()))
    good = engine.submit(PROMPTS[1], 5)
    engine.run()
    assert isinstance(engine.last(bad), Failure) and engine.last(bad).error.message == "nothing is allowed"
    assert engine.tokens(good) == alone(PROMPTS[1], 5)
    assert nothing_is_held(engine)


def test_what_cannot_be_answered_is_refused_at_once():
    engine = Engine(MODEL, max_waiting=2)
    with pytest.raises(ConfigError, match="no tokens"):
        engine.submit([])
    with pytest.raises(ConfigError, match="token 999"):
        engine.submit([999])
    with pytest.raises(ConfigError, match="no room in the model's context"):
        engine.submit(random_prompts([96])[0])
    for _ in range(2):
        engine.submit(PROMPTS[0])
    with pytest.raises(QueueFullError):
        engine.submit(PROMPTS[0])
    engine.core.fail_all(CheckFailedError("the end"))
    assert not engine.core.step() and nothing_is_held(engine)


def test_tenants_who_ask_for_nothing_any_more_are_forgotten_when_there_are_many(monkeypatch):
    monkeypatch.setattr(core, "MOST_TENANTS", 3)
    engine = Engine(MODEL)
    for number in range(8):
        engine.submit([1, 2], 2, tenant=f"user {number}")
        engine.run()
    assert len(engine.core._served) <= 4
