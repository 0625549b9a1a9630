"""What every body of a request has in common."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import json
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

MOST_CHARACTERS = 10_000_000
Text = Annotated[str, Field(max_length=MOST_CHARACTERS)]
TokenIds = Annotated[list[Annotated[int, Field(ge=0, le=2**31)]], Field(max_length=1_000_000, fail_fast=True)]
"""The first one that is wrong is reported: half a million errors take seconds and hundreds of megabytes."""
MOST_FIELDS = 200
"""Of an object; beyond it its fields are not looked at, for the same reason."""

MOST_NESTED = 100
"""Objects and lists in each other."""


def at_most(count: int) -> BeforeValidator:
    """Refuses objects with more entries before it looks at them."""

    def check(given: Any) -> Any:
        if isinstance(given, dict) and len(given) > count:
            raise ValueError(f"an object with {len(given):,} entries, more than {count:,}")
        return given

    return BeforeValidator(check)


def check_nesting(given: dict[str, Any]) -> None:
    """Nothing where it is fine.

    Raises:
        ValueError: nested more deeply than what walks through it can.
    """
    level: list[Any] = [given]
    for _ in range(MOST_NESTED):
        level = [
            value
            for one in level
            for value in (one.values() if isinstance(one, dict) else one)
            if isinstance(value, dict | list)
        ]
        if not level:
            return
    raise ValueError(f"it has objects and lists in each other more than {MOST_NESTED} deep")


def sayable(given: dict[str, Any]) -> dict[str, Any]:
    """As it is.

    Raises:
        ValueError: nested too deeply, or what JSON and UTF-8 cannot say, such as NaN or half a character.
    """
    check_nesting(given)
    try:
        json.dumps(given, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:
        raise ValueError(f"it cannot be written as JSON again: {error}") from error
    return given


JsonObject = Annotated[dict[str, Any], AfterValidator(sayable)]
"""That is shown to a model, or sent back."""


class Body(BaseModel):
    """Unknown fields are errors, and so are values of another type: "1" is no number."""

    model_config: ClassVar[ConfigDict] = {"extra": "forbid", "allow_inf_nan": False, "strict": True}

    @model_validator(mode="before")
    @classmethod
    def _bounded(cls, given: Any) -> Any:
        if isinstance(given, dict) and len(given) > MOST_FIELDS:
            raise ValueError(f"an object with {len(given):,} fields, more than {MOST_FIELDS}")
        return given
