"""Requests in the form of text-generation-inference as requests of the engine."""

from __future__ import annotations

import contextlib
import json

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.strategies.constraints import Constraint, following_schema, matching
from mamba_slm.generation.text import prompt_tokens
from mamba_slm.serving.api.bodies.tgi import GenerateBody, Grammar, Parameters
from mamba_slm.serving.api.guard.trials import check_pattern, check_schema
from mamba_slm.serving.api.prompts import RenderedPrompt, engine_requests
from mamba_slm.serving.api.schemas import Sampling
from mamba_slm.serving.api.service import ServedModel
from mamba_slm.serving.engine.request import EngineRequest
from mamba_slm.text.tokenizer import Tokenizer


def requests_of(body: GenerateBody, model: ServedModel, *, seed: int, is_streamed: bool) -> list[EngineRequest]:
    """One request for each of `best_of`; the first is drawn with `seed`.

    Raises:
        ConfigError: a grammar that cannot be followed, or several texts that would be equal.
    """
    wanted = body.parameters
    if (wanted.best_of or 1) > 1 and not is_drawn(wanted):
        raise ConfigError("best_of other than 1 needs do_sample: without it, all texts are equal")
    tokens = prompt_tokens(model.tokenizer, body.inputs)
    if wanted.truncate is not None:
        tokens = tokens[-wanted.truncate :]
    constraint = None if wanted.grammar is None else constraint_of(wanted.grammar, model.tokenizer)
    sampling = Sampling(
        model=wanted.adapter_id or "",
        temperature=(wanted.temperature or 1.0) if is_drawn(wanted) else 0.0,
        top_p=wanted.top_p,
        top_k=wanted.top_k,
        typical_p=wanted.typical_p,
        repetition_penalty=wanted.repetition_penalty,
        frequency_penalty=wanted.frequency_penalty,
        seed=seed,
        stop=wanted.stop,
        n=wanted.best_of or 1,
    )
    prompt = RenderedPrompt(tokens=tuple(tokens), constraint=constraint)
    wants_logprobs = is_streamed or wanted.details or bool(wanted.top_n_tokens)
    top = (wanted.top_n_tokens or 0) if wants_logprobs or sampling.n != 1 else None
    return engine_requests(sampling, prompt, model, max_new_tokens=wanted.max_new_tokens, logprobs=top)


def is_drawn(wanted: Parameters) -> bool:
    """Whether tokens are drawn: when that is said, and when something is said that only drawing uses."""
    of_drawing = (wanted.top_k, wanted.top_p, wanted.typical_p)
    return wanted.do_sample or wanted.temperature not in (None, 1.0) or any(of_drawing)


def constraint_of(grammar: Grammar, tokenizer: Tokenizer) -> Constraint:
    """What the text must follow.

    Raises:
        ConfigError: it cannot be followed.
    """
    if grammar.type == "regex":
        if not isinstance(grammar.value, str):
            raise ConfigError("the value of a regex grammar must be text")
        check_pattern(grammar.value)
        return matching(grammar.value, tokenizer)
    value = grammar.value
    if grammar.type == "json_schema" and isinstance(value, dict) and "schema" in value:
        value = value["schema"]
    text = value if isinstance(value, str) else json.dumps(value)
    with contextlib.suppress(json.JSONDecodeError):  # which is told below
        check_schema(json.loads(text))
    return following_schema(text, tokenizer)
