"""Promises of constrained text: whatever the weights, what ends by itself is what was asked for."""

import json
import re

import pytest

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.generate import generate
from mamba_slm.generation.sampling import Sampler
from mamba_slm.generation.strategies.beam import BeamSearch
from mamba_slm.generation.strategies.constraints import KEPT_MATCHERS, following_schema, matching, one_of
from mamba_slm.generation.strategies.history import History
from mamba_slm.generation.text import generate_text
from small_models import small_tokenizer, varied_model

SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"name": {"enum": ["naïve", "語"]}, "n": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["name", "n"],
        "additionalProperties": False,
    }
)


@pytest.fixture(scope="module")
def model():
    return varied_model(max_context_tokens=96)


def texts(model, constraint, **settings):
    """Three texts of each of two prompts, and why they ended."""
    sampler = Sampler.from_settings(temperature=1.5, constraint=constraint)
    settings = {"max_new_tokens": 60, "sampler": sampler, "samples_per_prompt": 3, **settings}
    return generate_text(model, small_tokenizer(), ["x = ", "def"], **settings)[0]


@pytest.mark.parametrize("seed", range(3))
def test_json_follows_its_schema(model, seed):
    for row in texts(model, following_schema(SCHEMA, small_tokenizer()), seed=seed):
        assert row.finish_reason == "eos"
        found = json.loads(row.text)
        assert set(found) == {"name", "n"}
        assert found["name"] in ("naïve", "語")
        assert 0 <= found["n"] <= 99


@pytest.mark.parametrize("regex", [r"(ab|語){1,3}!", r"[a-z]+: \d{2}", r"."])
def test_text_matches_a_regular_expression_whole(model, regex):
    rows = texts(model, matching(regex, small_tokenizer()))
    assert all(re.fullmatch(regex, row.text) for row in rows if row.finish_reason == "eos")
    assert any(row.finish_reason == "eos" for row in rows)


def test_a_choice_is_one_of_the_texts(model):
    choices = ["yes", 'no "never"', "yes, but", "😀"]
    assert {row.text for row in texts(model, one_of(choices, small_tokenizer()))} <= set(choices)


def test_every_beam_follows_the_constraint_by_itself(model):
    constraint = one_of(["left", "right", "straight on", "back"], small_tokenizer())
    sampler = Sampler.from_settings(temperature=0, constraint=constraint)
    rows = texts(model, None, sampler=sampler, strategy=BeamSearch(beams=4), samples_per_prompt=4)
    assert {row.text for row in rows} <= {"left", "right", "straight on", "back"}
    assert {row.finish_reason for row in rows} == {"eos"}


def test_what_is_allowed_depends_on_what_was_made_alone(model):
    import torch

    tokenizer = small_tokenizer()
    made = tuple(tokenizer.encode("def f"))

    def allowed(constraint, made):
        history = History([[1]], vocab_size=tokenizer.vocab_size)
        history.made = [made]
        return constraint.process(torch.zeros(1, tokenizer.vocab_size), history).isfinite()

    step_by_step, at_once = (matching("def f.*\n[0-9]+", tokenizer) for _ in range(2))
    for end in range(len(made) + 1):
        step = allowed(step_by_step, made[:end])
    assert torch.equal(step, allowed(at_once, made))
    assert torch.equal(allowed(step_by_step, ()), allowed(at_once, ()))
    assert not step[0, sorted(tokenizer.special_ids)].any()
    assert len(step_by_step._matchers) <= KEPT_MATCHERS


def test_the_memory_of_places_is_bounded(model, monkeypatch):
    monkeypatch.setattr("mamba_slm.generation.strategies.constraints.KEPT_MATCHERS", 2)
    rows = texts(model, one_of(["yes", "no"], small_tokenizer()))
    assert {row.text for row in rows} <= {"yes", "no"}


@pytest.mark.parametrize(
    "make, argument, message",
    [
        (matching, "[", "unclosed character class"),
        (following_schema, "{", "is not JSON"),
        (following_schema, "[]", "not a JSON object"),
        (following_schema, '{"type": "strange"}', "strange"),
        (one_of, [], "needs texts"),
        (one_of, ["a", ""], "none may be empty"),
    ],
)
def test_what_cannot_be_followed_is_refused(make, argument, message):
    with pytest.raises(ConfigError, match=message):
        make(argument, small_tokenizer())


def test_settings_that_leave_nothing_are_named(model):
    sampler = Sampler.from_settings(
        constraint=one_of(["a"], small_tokenizer()), logit_bias={small_tokenizer().encode("a")[0]: -float("inf")}
    )
    with pytest.raises(ConfigError, match="other settings forbid every token that the choice allows"):
        generate(model, [[1]], max_new_tokens=2, sampler=sampler)
