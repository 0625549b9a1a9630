"""Promises of what an observer of the engine is told."""

from collections import Counter

import pytest

from mamba_slm.generation.sampling import Sampler
from mamba_slm.serving.engine.core import QueueFullError
from mamba_slm.serving.engine.load import Load
from mamba_slm.serving.engine.observer import Observer
from serving.engines import Engine, random_prompts
from small_models import varied_model

MODEL = varied_model(max_context_tokens=96).eval().requires_grad_(False)
PROMPTS = random_prompts([5, 17, 33, 8, 40, 25])


class Notes(Observer):
    """Everything, in order."""

    def __init__(self):
        self.told = []

    def _note(self, name, *arguments, **more):
        self.told.append((name, arguments, more))

    def of(self, name):
        return [(arguments, more) for told, arguments, more in self.told if told == name]

    def counts(self):
        return Counter(name for name, _, _ in self.told)


for method in [name for name in vars(Observer) if not name.startswith("_")]:
    setattr(Notes, method, lambda self, *arguments, _name=method, **more: self._note(_name, *arguments, **more))


def observed(**settings):
    engine = Engine(MODEL, **settings)
    engine.core.observer = Notes()
    return engine, engine.core.observer


def test_every_request_is_told_of_from_its_arrival_to_its_end():
    engine, notes = observed()
    for prompt in PROMPTS:
        engine.submit(prompt, 7)
    engine.run()
    counts = notes.counts()
    assert counts["queued"] == counts["started"] == counts["finished"] == len(PROMPTS)
    assert sum(arguments[0] for arguments, _ in notes.of("delivered")) == 7 * len(PROMPTS)
    assert sum(len(more["first_seconds"]) for _, more in notes.of("delivered")) == len(PROMPTS)
    assert sum(len(more["gap_seconds"]) for _, more in notes.of("delivered")) == 6 * len(PROMPTS)
    for (_, usage, reason), _ in notes.of("finished"):
        assert usage.new_tokens == 7 and reason == "length"


def test_steps_add_up_to_what_the_model_computed():
    engine, notes = observed()
    for prompt in PROMPTS:
        engine.submit(prompt, 7, use_cache=False)
    engine.run()
    steps = [arguments[0] for arguments, _ in notes.of("stepped")]
    assert sum(step.read_tokens for step in steps) == sum(map(len, PROMPTS))
    assert sum(step.decoded_tokens for step in steps) == 6 * len(PROMPTS)


def test_the_times_of_tokens_are_those_of_the_clock():
    engine, notes = observed()
    engine.submit(PROMPTS[0], 4)
    engine.run()  # a step is 0.01 seconds
    gaps = [gap for _, more in notes.of("delivered") for gap in more["gap_seconds"]]
    assert gaps == pytest.approx([0.01] * 3)


def test_a_suspended_request_is_told_of_twice():
    engine, notes = observed(max_running=1)
    engine.submit(PROMPTS[1], 12, priority=1)
    for _ in range(3):
        engine.core.step()
    engine.submit(PROMPTS[2], 3)
    engine.core.step()
    assert engine.core.load().suspended == engine.core.load().waiting == engine.core.load().running == 1
    engine.run()
    assert engine.core.load() == Load()
    counts = notes.counts()
    assert counts["suspended"] == counts["resumed"] == 1 and counts["started"] == 2


def test_cached_tokens_are_told_at_the_start():
    engine, notes = observed()
    engine.ask(PROMPTS[4])
    engine.ask(PROMPTS[4])
    cached = [more["cached_tokens"] for _, more in notes.of("started")]
    assert cached == [0, len(PROMPTS[4])]


def test_requests_that_end_otherwise_are_told_of_once():
    engine, notes = observed(max_running=1, max_waiting=1)
    running = engine.submit(PROMPTS[0], 50)
    engine.core.step()
    engine.submit(PROMPTS[1], 5)
    with pytest.raises(QueueFullError):
        engine.submit(PROMPTS[2], 5)
    engine.core.cancel(running)
    engine.core.cancel(running)
    engine.core.fail_all(QueueFullError("the test ends"))
    assert not engine.core.step()
    counts = notes.counts()
    assert (counts["queued"], counts["cancelled"], counts["failed"], counts["finished"]) == (2, 1, 1, 0)


def test_a_request_that_has_no_token_to_choose_is_told_of_as_failed():
    engine, notes = observed()
    engine.submit(PROMPTS[0], 5, sampler=Sampler.from_settings(logit_bias=dict.fromkeys(range(320), float("-inf"))))
    engine.run()
    assert notes.counts()["failed"] == 1 and not notes.of("finished")


def test_one_that_waits_for_another_to_read_the_same_beginning_is_counted_apart():
    engine, _ = observed(step_tokens=8)
    long = random_prompts([80])[0]
    engine.submit(long, 3)
    engine.submit([*long, 5], 3)
    engine.submit(PROMPTS[1], 3)
    engine.core.step()
    assert engine.core.load().deferred == 1 and engine.core.load().waiting == 1
