"""The body of a request: OpenAI's fields, those of drawing that the other addresses have, and refusals with reasons."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from mamba_slm.serving.api.bodies.strict import Body, JsonObject, at_most
from mamba_slm.serving.api.responses.fields import MOST_SHOWN, one_of_type, refused_unless
from mamba_slm.serving.api.responses.items import NOTHING_KEPT, Id, Input, InputCall, InputCallOutput, InputMessage
from mamba_slm.serving.api.schemas import Drawing, Text
from mamba_slm.serving.api.tools.bodies import Name

FUNCTIONS_ONLY = "this server runs no tools: offer a function, and run it where you call from"
LOGPROBS = "message.output_text.logprobs"
ENCRYPTED_REASONING = "reasoning.encrypted_content"


class FunctionTool(Body):
    """A function that the model may call."""

    type: Literal["function"]
    name: Name
    description: Annotated[str, Field(max_length=100_000)] | None = None
    parameters: JsonObject | None = None
    """A JSON schema of an object; None: no parameters."""
    strict: bool | None = None
    """Whether calls must follow the schema also where the model chooses freely; None: no."""


class FunctionChoice(Body):
    """The one that must be called."""

    type: Literal["function"]
    name: Name


class TextFormat(Body):
    """What an answer must look like."""

    type: Literal["text", "json_object", "json_schema"]
    name: Annotated[str, Field(max_length=512)] | None = None
    description: Annotated[str, Field(max_length=100_000)] | None = None
    schema_: Annotated[JsonObject | None, Field(alias="schema")] = None
    """Of `json_schema`; it is followed, `strict` or not."""
    strict: bool | None = None

    @model_validator(mode="after")
    def check(self) -> Self:
        """What fields say together."""
        if (self.schema_ is not None) != (self.type == "json_schema"):
            raise ValueError("schema belongs to the type json_schema, which needs one")
        return self


class TextSettings(Body):
    """Of answers."""

    format: TextFormat | None = None
    verbosity: Annotated[
        Literal["medium"] | None,
        refused_unless((None, "medium"), "the model was not trained to be brief or wordy: leave it out"),
    ] = None


class ResponseStreamOptions(Body):
    """Of a streamed answer."""

    include_obfuscation: bool = False
    """Accepted; nothing is padded."""


class ResponsesBody(Drawing):
    """POST /v1/responses."""

    input: Input
    """A text is a message of the user."""
    instructions: Text | None = None
    """The first message of the role `system`."""
    max_output_tokens: Annotated[int, Field(ge=1, le=2**31)] | None = None
    tools: (
        Annotated[list[Annotated[FunctionTool, one_of_type(("function",), {}, FUNCTIONS_ONLY)]], Field(max_length=512)]
        | None
    ) = None
    tool_choice: (
        Annotated[
            Literal["none", "auto", "required"] | FunctionChoice,
            one_of_type(("function",), {}, "say none, auto, required, or a function by its name"),
        ]
        | None
    ) = None
    parallel_tool_calls: bool | None = True
    text: TextSettings | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    """So many likely tokens beside each; the chosen ones are told too."""
    include: (
        Annotated[
            list[
                Annotated[
                    Literal["message.output_text.logprobs", "reasoning.encrypted_content"],
                    refused_unless(
                        (LOGPROBS, ENCRYPTED_REASONING),
                        f"there is nothing of this kind to include here, only {LOGPROBS}",
                    ),
                ]
            ],
            Field(max_length=64),
        ]
        | None
    ) = None
    """`reasoning.encrypted_content` is accepted and adds nothing: there is no reasoning apart."""
    metadata: (
        Annotated[
            dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
            at_most(16),
        ]
        | None
    ) = None
    """Repeated in the answer."""
    safety_identifier: Id | None = None
    """Takes turns where `user` is not given."""
    prompt_cache_key: Id | None = None
    """Accepted: equal beginnings are found without it. `cache_salt` keeps them apart."""
    store: bool | None = None
    """Accepted, and answered with `false`: nothing is kept."""
    stream_options: ResponseStreamOptions | None = None
    truncation: Annotated[
        Literal["disabled"] | None,
        refused_unless((None, "disabled"), "nothing is left out of a conversation unasked: shorten input"),
    ] = None
    background: Annotated[
        Literal[False] | None,
        refused_unless((None, False), "answers are not kept for later: ask with stream, or wait"),
    ] = None
    previous_response_id: Annotated[None, refused_unless((None,), NOTHING_KEPT)] = None
    conversation: Annotated[None, refused_unless((None,), NOTHING_KEPT)] = None
    prompt: Annotated[None, refused_unless((None,), "no prompts are kept here: send instructions and input")] = None
    reasoning: Annotated[None, refused_unless((None,), "the model does not reason apart: leave it out")] = None
    max_tool_calls: Annotated[
        None, refused_unless((None,), "it counts calls of hosted tools, and there are none: leave it out")
    ] = None

    @field_validator("input")
    @classmethod
    def outputs_have_calls(cls, items: list[InputMessage | InputCall | InputCallOutput]) -> list[Any]:
        """Nothing else would tell the model what an output belongs to."""
        calls: set[str] = set()
        for number, item in enumerate(items):
            if isinstance(item, InputCall):
                calls.add(item.call_id)
            elif isinstance(item, InputCallOutput) and item.call_id not in calls:
                raise ValueError(
                    f"item {number} is the output of the call {item.call_id[:MOST_SHOWN]!r}, which does not stand "
                    f"before it. Send its function_call, too: {NOTHING_KEPT}"
                )
        return items
