"""Promises of the engine in its thread: many askers at once, cancellation, failure and shutdown."""

import asyncio
import itertools
import threading
import time
from contextlib import aclosing

import pytest

from mamba_slm.core.errors import ConfigError, SetupError
from mamba_slm.generation.generate import generate
from mamba_slm.serving.engine.request import EngineRequest
from mamba_slm.serving.engine.thread import Engine
from serving.engines import Engine as Cores
from serving.engines import random_prompts
from small_models import varied_model

MODEL = varied_model(max_context_tokens=96).eval().requires_grad_(False)
PROMPTS = random_prompts([5, 1, 17, 33, 8, 40, 2, 25])


@pytest.fixture
def cores():
    return Cores(MODEL)


@pytest.fixture
def engine(cores):
    engine = Engine(cores.core)
    engine.start()
    yield engine
    engine.stop()


def request(prompt, max_new_tokens=8, **settings):
    return EngineRequest(prompt=tuple(prompt), max_new_tokens=max_new_tokens, **settings)


def held(cores, until):
    """Lets the engine make two steps and wait in the third until a function says yes; what is set when it waits."""
    step, number, waits = cores.core.step, itertools.count(1), threading.Event()

    def third_is_held():
        if next(number) == 3:
            waits.set()
            while not until():
                time.sleep(0.001)
        return step()

    cores.core.step = third_is_held
    return waits


async def tokens(engine, asked):
    async with aclosing(engine.generate(asked)) as pieces:
        return [piece.token async for piece in pieces]


def test_many_askers_at_once_each_get_their_own_answer(engine):
    async def ask_all():
        return await asyncio.gather(*(tokens(engine, request(prompt)) for prompt in PROMPTS))

    expected = [list(generate(MODEL, [prompt], max_new_tokens=8).completions[0].tokens) for prompt in PROMPTS]
    assert asyncio.run(ask_all()) == expected


def test_an_asker_who_leaves_frees_the_slot_and_the_others_go_on(engine, cores):
    async def leave():
        async with aclosing(engine.generate(request(PROMPTS[0], 90))) as pieces:
            await anext(pieces)
        cancelled = asyncio.ensure_future(tokens(engine, request(PROMPTS[2], 70)))
        await asyncio.sleep(0)
        cancelled.cancel()
        return await tokens(engine, request(PROMPTS[1], 4))

    assert len(asyncio.run(leave())) == 4
    engine.stop()
    cores.core.cache.clear()
    assert cores.pool.num_free_slots == 4 and cores.pool.blocks.num_free == cores.pool.blocks.count


def test_what_the_engine_refuses_is_raised_where_it_was_asked(engine):
    with pytest.raises(ConfigError, match="no room in the model's context"):
        asyncio.run(tokens(engine, request(random_prompts([200])[0])))
    assert asyncio.run(tokens(engine, request(PROMPTS[0], 2)))


def test_a_failure_of_the_model_is_told_to_those_it_concerns_and_the_engine_lives_on(cores):
    said = []
    engine = Engine(cores.core, say=said.append)
    read = cores.executor.read
    cores.executor.read = lambda *arguments, **more: 1 / 0
    engine.start()
    with pytest.raises(Exception, match="ZeroDivisionError"):
        asyncio.run(tokens(engine, request(PROMPTS[0])))
    assert "ZeroDivisionError" in said[0]
    cores.executor.read = read
    assert asyncio.run(tokens(engine, request(PROMPTS[0], 3)))
    engine.stop()


def test_a_stopping_engine_takes_nothing_new_and_lets_the_rest_finish(cores):
    engine = Engine(cores.core)
    waits = held(cores, lambda: not engine.is_ready)
    engine.start()

    async def ask_and_stop():
        asked = asyncio.ensure_future(tokens(engine, request(PROMPTS[0], 30)))
        await asyncio.to_thread(waits.wait)
        await asyncio.to_thread(engine.stop, drain_seconds=300)
        return await asked

    assert len(asyncio.run(ask_and_stop())) == 30
    assert not engine.is_ready
    with pytest.raises(SetupError, match="shutting down"):
        asyncio.run(tokens(engine, request(PROMPTS[0])))


def test_a_stop_without_patience_ends_those_that_run(cores):
    engine = Engine(cores.core)
    waits = held(cores, lambda: engine._stops)
    engine.start()

    async def ask_and_stop():
        asked = asyncio.ensure_future(tokens(engine, request(PROMPTS[0], 90)))
        await asyncio.to_thread(waits.wait)
        late = asyncio.ensure_future(tokens(engine, request(PROMPTS[1])))
        await asyncio.sleep(0)  # it was let in, and the engine has not looked at it yet
        await asyncio.to_thread(engine.stop)
        return await asyncio.gather(asked, late, return_exceptions=True)

    ends = asyncio.run(asyncio.wait_for(ask_and_stop(), 120))
    assert all(isinstance(end, SetupError) and "was shut down" in str(end) for end in ends), ends


def test_freed_memory_is_given_back_once_after_work_and_not_while_there_is_any(cores, monkeypatch):
    monkeypatch.setattr("mamba_slm.serving.engine.thread.IDLE_SECONDS", 0.02)
    monkeypatch.setattr("mamba_slm.serving.engine.thread.BETWEEN_IDLES_SECONDS", 0.0)
    idles, idle = [], threading.Event()

    def on_idle():
        idles.append(True)
        idle.set()

    engine = Engine(cores.core, on_idle=on_idle)
    engine.start()
    for _ in range(2):
        assert idle.wait(60)
        idle.clear()
        asyncio.run(tokens(engine, request(PROMPTS[0])))
    assert idle.wait(60)
    engine.stop()
    assert len(idles) == 3
