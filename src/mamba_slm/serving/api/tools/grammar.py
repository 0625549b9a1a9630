"""Grammars of answers that call functions, for llguidance.

Every function has a rule of its own, so that `$ref` in its parameters finds what it names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mamba_slm.generation.strategies.constraints import WHITESPACE
from mamba_slm.serving.api.tools.bodies import Function
from mamba_slm.serving.api.tools.form import CallForm

NO_PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}


def calls_grammar(
    functions: Sequence[Function],
    form: CallForm,
    *,
    is_free: bool,
    most_calls: int | None,
    specials: frozenset[str],
    answer: Mapping[str, Any] | None = None,
) -> str:
    """Lark of an answer that calls one or more of these functions.

    Args:
        functions: at least one.
        is_free: text may stand before, and there need be no call at all; but what is a call follows its schema. Only
            where a tag begins calls.
        most_calls: not more; None: as many as one likes.
        specials: names of special tokens, which a grammar must not spell letter by letter.
        answer: JSON schema of what may stand instead of calls. Only where a tag begins calls.
    """
    rules = [f"call_{number}: {body_of(function, form)}" for number, function in enumerate(functions)]
    heads, feet = literal(form.head, specials), literal(form.foot, specials)
    inner = " | ".join(f"call_{number}" for number in range(len(functions)))
    single = most_calls == 1 or not form.head
    if is_free:
        begin = f"TEXT {heads}" if form.head in specials else "begin"
        if form.head not in specials:
            rules.append(f"begin[lazy]: TEXT {heads}")
        rules += [f'call: {begin} "\\n" body "\\n" {feet}', "TEXT: /(.|\\n)*/"]
        start = "start: call? TEXT" if single else "start: call* TEXT"
    elif form.head:
        rules.append(f'call: {heads} "\\n" body "\\n" {feet}')
        start = "start: call" if single else 'start: call ("\\n" call)*'
    else:
        rules.append("call: body")
        start = "start: call"
    if answer is not None:
        start = f"start: calls | answer\n{start.replace('start', 'calls', 1)}"
        rules.append(f"answer: %json {json.dumps({**answer, 'x-guidance': WHITESPACE})}")
    return "\n".join([start, *rules, f"body: {inner}", ""])


def body_of(function: Function, form: CallForm) -> str:
    """The JSON of a call of one function, as a part of a rule."""
    schema = {**(function.parameters or NO_PARAMETERS), "x-guidance": WHITESPACE}
    schema.setdefault("type", "object")
    before = f'{{"name": {json.dumps(function.name)}, "{form.key}": '
    return f'{json.dumps(before)} %json {json.dumps(schema)} "}}"'


def literal(text: str, specials: frozenset[str]) -> str:
    """A tag in Lark: as the special token that it may be, or by its letters."""
    return text if text in specials else json.dumps(text)
