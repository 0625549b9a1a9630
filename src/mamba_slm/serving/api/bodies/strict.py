"""What every body of a request has in common."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(max_length=10_000_000)]
TokenIds = Annotated[list[Annotated[int, Field(ge=0, le=2**31)]], Field(max_length=1_000_000)]


class Body(BaseModel):
    """Unknown fields are errors, and so are values of another type: "1" is no number."""

    model_config: ClassVar[ConfigDict] = {"extra": "forbid", "allow_inf_nan": False, "strict": True}
