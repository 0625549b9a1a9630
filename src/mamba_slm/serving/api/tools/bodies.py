"""Tools and calls as OpenAI's clients write them."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from typing import Annotated, Literal

from pydantic import Field

from mamba_slm.serving.api.bodies.strict import Body, JsonObject, Text

Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]


class Function(Body):
    """A function and its parameters."""

    name: Name
    description: Annotated[str, Field(max_length=100_000)] | None = None
    parameters: JsonObject | None = None
    """A JSON schema of an object; None: no parameters."""
    strict: bool | None = None
    """Whether calls must follow the schema also where the model chooses freely."""


class Tool(Body):
    """The only kind of tool there is."""

    type: Literal["function"]
    function: Function


class NamedFunction(Body):
    """Of a choice."""

    name: Name


class NamedTool(Body):
    """The one that must be called."""

    type: Literal["function"]
    function: NamedFunction


ToolChoice = Literal["none", "auto", "required"] | NamedTool


class CalledFunction(Body):
    """What was called, with its arguments as JSON text."""

    name: Annotated[str, Field(max_length=512)]
    arguments: Text


class ToolCall(Body):
    """Of an earlier answer."""

    id: Annotated[str, Field(max_length=512)]
    type: Literal["function"] = "function"
    function: CalledFunction
