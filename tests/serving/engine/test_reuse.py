"""Promises of the prefix cache in the engine: the same logits at every cut, and only what is new is read."""

import pytest
import torch

from mamba_slm.generation.generate import generate
from mamba_slm.serving.cache.prefix_cache import CacheSettings
from serving.engines import Engine, random_prompts
from small_models import varied_model
from tolerances import assert_close, tolerance_of

MODEL = varied_model(max_context_tokens=160).eval().requires_grad_(False)
(LONG, TAIL, OTHER) = random_prompts([100, 12, 100], seed=2)


def reading(engine):
    """Counts the prompt tokens that go through the model."""
    read = []
    original = engine.executor.read

    def counted(pieces):
        results = original(pieces)
        read.extend((len(piece.tokens), result.logits) for piece, result in zip(pieces, results, strict=True))
        return results

    engine.executor.read = counted
    return read


def logits_of(prompt):
    return MODEL(torch.tensor([prompt]))[0, -1]


@pytest.mark.parametrize("cut", [4, 7, 8, 9, 50, 63, 64, 65, 99, 100])
def test_logits_after_a_prompt_that_branches_off_are_those_without_a_cache_at_every_cut(cut):
    engine = Engine(MODEL)
    engine.ask(LONG, 1)
    prompt = [*LONG[:cut], *TAIL]
    for _ in range(3):  # from the grid, from the branch point, from its own end
        read = reading(engine)
        number = engine.submit(prompt, 3)
        engine.run()
        if read:
            assert_close(read[-1][1], logits_of(prompt), tolerance_of("model").values)
        assert engine.tokens(number) == list(generate(MODEL, [prompt], max_new_tokens=3).completions[0].tokens)


def test_a_branching_prompt_pays_for_its_new_part_only():
    engine = Engine(MODEL)
    engine.ask(LONG, 1)
    read = reading(engine)
    engine.ask([*LONG[:90], *TAIL], 1)
    assert sum(count for count, _ in read) <= len(TAIL) + 8  # and what lies behind the last state of the grid
    read.clear()
    engine.ask([*LONG[:90], *OTHER[:5]], 1)  # the branch point has a state since then
    assert sum(count for count, _ in read) == 5


def test_the_same_prompt_again_reads_nothing():
    engine = Engine(MODEL)
    first = engine.ask(LONG, 4)
    read = reading(engine)
    number = engine.submit(LONG, 4)
    engine.run()
    assert engine.tokens(number) == first and not read
    assert engine.last(number).usage.cached_tokens == len(LONG)


def test_a_conversation_goes_on_from_its_last_token():
    engine = Engine(MODEL)
    reply = engine.ask(LONG, 6)
    read = reading(engine)
    following = [*LONG, *reply, *TAIL]
    number = engine.submit(following, 4)
    engine.run()
    assert sum(count for count, _ in read) == len(TAIL) + 1  # the last token of the reply was never read
    assert engine.tokens(number) == list(generate(MODEL, [following], max_new_tokens=4).completions[0].tokens)


def test_states_are_kept_at_the_ends_of_messages():
    engine = Engine(MODEL, cache=CacheSettings(every=0, min_tokens=4))
    engine.ask(LONG, 1, boundaries=(30, 77))
    number = engine.submit([*LONG[:77], *TAIL], 1)
    engine.run()
    assert engine.last(number).usage.cached_tokens == 77
    number = engine.submit([*LONG[:50], *TAIL], 1)
    engine.run()
    assert engine.last(number).usage.cached_tokens == 30


def test_namespaces_see_nothing_of_each_other_and_a_request_may_stay_out():
    engine = Engine(MODEL)
    engine.ask(LONG, 1, salt="a")
    for settings in ({"salt": "b"}, {"salt": "a", "use_cache": False}):
        number = engine.submit(LONG, 1, **settings)
        engine.run()
        assert engine.last(number).usage.cached_tokens == 0
    assert engine.core.cache.counts.misses["salt"] == engine.core.cache.counts.misses["disabled"] == 1


def test_requests_that_begin_alike_and_come_together_read_their_common_part_once():
    engine = Engine(MODEL, step_tokens=200)
    read = reading(engine)
    prompts = [[*LONG, *random_prompts([3], seed=seed)[0]] for seed in range(4)]
    numbers = [engine.submit(prompt, 4) for prompt in prompts]
    engine.run()
    assert sum(count for count, _ in read) == len(LONG) + 4 * 3
    for number, prompt in zip(numbers, prompts, strict=True):
        assert engine.tokens(number) == list(generate(MODEL, [prompt], max_new_tokens=4).completions[0].tokens)


def test_a_state_in_use_survives_its_eviction():
    engine = Engine(MODEL, cache=CacheSettings(every=0, min_tokens=4))
    engine.ask(LONG, 1)
    number = engine.submit([*LONG, *TAIL], 12)
    engine.core.step()
    engine.core.cache.clear()
    engine.ask(OTHER, 4)
    engine.run()
    expected = generate(MODEL, [[*LONG, *TAIL]], max_new_tokens=12).completions[0].tokens
    assert engine.tokens(number) == list(expected)


@pytest.mark.parametrize("first", [LONG[:70], LONG])
def test_in_batch_invariant_mode_what_is_reused_changes_no_bit(first, monkeypatch):
    monkeypatch.setattr("mamba_slm.serving.engine.core.INVARIANT_PIECE_TOKENS", 32)
    monkeypatch.setattr("mamba_slm.serving.engine.keeping.INVARIANT_PIECE_TOKENS", 32)
    prompt = [*LONG[:80], *TAIL]
    cold, warm = (Engine(MODEL, batch_invariant=True, step_tokens=20) for _ in range(2))
    warm.ask(first, 5)
    results = []
    for engine in (cold, warm):
        number = engine.submit(prompt, 5, logprobs=2)
        engine.run()
        results.append([(a.token, a.logprob, a.top) for a in engine.answers[number]])
    assert results[0] == results[1]
    assert warm.core.cache.counts.reused_tokens == 64
