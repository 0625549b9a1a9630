"""What every body of a request has in common."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Text = Annotated[str, Field(max_length=10_000_000)]
TokenIds = Annotated[list[Annotated[int, Field(ge=0, le=2**31)]], Field(max_length=1_000_000, fail_fast=True)]
"""The first one that is wrong is reported: half a million errors take seconds and hundreds of megabytes."""
MOST_FIELDS = 200
"""Of an object; beyond it its fields are not looked at, for the same reason."""


def at_most(count: int) -> BeforeValidator:
    """Refuses objects with more entries before it looks at them."""

    def check(given: Any) -> Any:
        if isinstance(given, dict) and len(given) > count:
            raise ValueError(f"an object with {len(given):,} entries, more than {count:,}")
        return given

    return BeforeValidator(check)


class Body(BaseModel):
    """Unknown fields are errors, and so are values of another type: "1" is no number."""

    model_config: ClassVar[ConfigDict] = {"extra": "forbid", "allow_inf_nan": False, "strict": True}

    @model_validator(mode="before")
    @classmethod
    def _bounded(cls, given: Any) -> Any:
        if isinstance(given, dict) and len(given) > MOST_FIELDS:
            raise ValueError(f"an object with {len(given):,} fields, more than {MOST_FIELDS}")
        return given
