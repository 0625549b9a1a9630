"""Promises about schemas that explode: they are refused in bounded time, and harmless ones are not held up."""

import pytest

from mamba_slm.core.errors import ConfigError
from mamba_slm.serving.api.guard import trials
from mamba_slm.serving.api.guard.trials import HARMLESS, MOST_DEPTH, check_pattern, check_schema, measured
from mamba_slm.serving.engine.core import QueueFullError


@pytest.fixture
def tried(monkeypatch):
    """What was given to another process; nothing is."""
    asked = []
    monkeypatch.setattr(trials, "ends", lambda text: asked.append(text) or "multipleOf" not in text)
    monkeypatch.setattr(trials, "_verdicts", type(trials._verdicts)())
    return asked


def test_a_harmless_schema_is_not_tried_even_when_names_look_like_words(tried):
    schema = {"type": "object", "properties": {"pattern": {"type": "integer"}, "format": {"enum": ["multipleOf"]}}}
    assert measured(schema)[2] <= HARMLESS
    check_schema(schema)
    assert tried == []


def test_what_could_explode_is_tried_once_and_refused_where_it_does(tried):
    for _ in range(2):
        check_schema({"type": "string", "pattern": "^a$"})
        check_schema({"enum": list(range(1000))})
        check_pattern("a{1000}")
    assert len(tried) == 3
    for _ in range(2):
        with pytest.raises(ConfigError, match="takes too long to prepare"):
            check_schema({"properties": {"a": {"multipleOf": 999983}}})
    assert len(tried) == 4


def test_a_schema_too_deep_or_too_long_is_refused_at_once(tried):
    deep = {"type": "integer"}
    for _ in range(MOST_DEPTH):
        deep = {"items": deep}
    with pytest.raises(ConfigError, match="levels deep"):
        check_schema(deep)
    with pytest.raises(ConfigError, match="characters"):
        check_schema({"description": "a" * 300_000})
    assert tried == []


def test_beyond_so_many_trials_others_are_told_to_come_later(tried, monkeypatch):
    monkeypatch.setattr(trials, "_running", trials.threading.BoundedSemaphore(1))
    trials._running.acquire()
    with pytest.raises(QueueFullError):
        check_pattern("b{1000}")


@pytest.mark.slow
def test_a_real_explosion_ends_in_bounded_time_and_a_good_pattern_passes(monkeypatch):
    pytest.importorskip("llguidance")
    monkeypatch.setattr(trials, "WALL_SECONDS", 300.0)  # what bounds it is CPU time, which a busy machine gives late
    check_schema({"type": "string", "pattern": "^[a-z]{1,20}$"})
    check_schema({"type": "no such type", "format": "odd"})  # wrong, which is not for a trial to say
    with pytest.raises(ConfigError, match="takes too long to prepare"):
        check_schema({"type": "integer", "multipleOf": 999983})


def test_a_busy_machine_is_no_verdict_about_a_pattern(monkeypatch):
    pytest.importorskip("llguidance")
    pattern = "a busy machine"
    monkeypatch.setattr(trials, "WALL_SECONDS", 0.0)
    with pytest.raises(QueueFullError, match="too busy"):
        check_pattern(pattern)
    monkeypatch.setattr(trials, "WALL_SECONDS", 300.0)
    check_pattern(pattern)
