"""What a conversation is made of: messages, calls of functions, and their results."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from mamba_slm.serving.api.bodies.strict import Body, Text
from mamba_slm.serving.api.responses.fields import OrText, one_of_type

NOTHING_KEPT = "nothing is kept between requests: send all items of the conversation in input"
TEXT_ONLY = "the model reads text only: send it as input_text"
Id = Annotated[str, Field(max_length=512)]
Status = Literal["in_progress", "completed", "incomplete"]


class InputPart(Body):
    """A part of a text. What answers hold beside it is accepted and means nothing."""

    type: Literal["input_text", "output_text"]
    text: Text
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


Content = Annotated[
    list[Annotated[InputPart, one_of_type(("input_text", "output_text"), {}, TEXT_ONLY)]],
    Field(max_length=1024),
    OrText(lambda text: [{"type": "input_text", "text": text}]),
]


class InputMessage(Body):
    """One message."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Content
    id: Id | None = None
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class InputCall(Body):
    """A call of an earlier answer."""

    type: Literal["function_call"]
    call_id: Id
    name: Id
    arguments: Text
    """JSON of an object."""
    id: Id | None = None
    status: Status | None = None


class InputCallOutput(Body):
    """What a call returned."""

    type: Literal["function_call_output"]
    call_id: Id
    """Of a call that stands before it."""
    output: Content
    id: Id | None = None
    status: Status | None = None


KINDS = {"message": InputMessage, "function_call": InputCall, "function_call_output": InputCallOutput}


def kind_of(given: Any) -> str | None:
    """The kind of an item; messages need not say that they are messages."""
    kind = given.get("type", "message") if isinstance(given, dict) else getattr(given, "type", None)
    return kind if isinstance(kind, str) and kind in KINDS else None


Item = Annotated[
    Annotated[InputMessage, Tag("message")]
    | Annotated[InputCall, Tag("function_call")]
    | Annotated[InputCallOutput, Tag("function_call_output")],
    Discriminator(
        kind_of,
        custom_error_type="unknown_item",
        custom_error_message="an item is an object with a role, or of the type function_call or function_call_output",
    ),
]
Input = Annotated[
    list[
        Annotated[
            Item,
            one_of_type(
                tuple(KINDS),
                {"item_reference": NOTHING_KEPT, "reasoning": "the model does not reason apart: leave it out"},
                "input holds messages, function_call and function_call_output",
            ),
        ]
    ],
    Field(min_length=1, max_length=4096),
    OrText(lambda text: [{"role": "user", "content": text}]),
]
