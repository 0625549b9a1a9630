"""Kinds of fields: those that are refused with a reason, and texts that stand for lists."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from mamba_slm.serving.api.bodies.strict import MOST_CHARACTERS

MOST_SHOWN = 60
"""Characters of a name in an error."""


def refused_unless(taken: Collection[Any], reason: str) -> BeforeValidator:
    """Refuses any other value and says what to do instead."""

    def check(given: Any) -> Any:
        if not any(given is one or (type(given) is type(one) and given == one) for one in taken):
            raise ValueError(reason)
        return given

    return BeforeValidator(check)


def one_of_type(known: Collection[str], reasons: Mapping[str, str], otherwise: str) -> BeforeValidator:
    """Refuses objects whose `type` is another one, with the reason.

    Args:
        reasons: by type.
        otherwise: for types that are not in `reasons`.
    """

    def check(given: Any) -> Any:
        kind = given.get("type") if isinstance(given, dict) else None
        if isinstance(kind, str) and kind not in known:
            raise ValueError(f"the type {kind[:MOST_SHOWN]!r} is not supported: {reasons.get(kind, otherwise)}")
        return given

    return BeforeValidator(check)


@dataclass(frozen=True)
class OrText:
    """A list, or a text that stands for a list of one. Beside the type of the list."""

    listed: Callable[[str], list[Any]]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def check(given: Any) -> Any:
            return self.listed(given) if isinstance(given, str) else given

        return core_schema.no_info_before_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string", "maxLength": MOST_CHARACTERS}, handler(schema)]}
