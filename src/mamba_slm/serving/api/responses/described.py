"""The answer as the OpenAPI document describes it; what is sent is made by `telling`."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from typing import Any, Literal

from pydantic import BaseModel

from mamba_slm.serving.api.bodies.answers import TokenLogprob

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class OutputText(BaseModel):
    """What is said."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    """Empty."""
    logprobs: list[TokenLogprob]
    """Empty where nobody asked for them."""


class OutputMessage(BaseModel):
    """Text of the model."""

    type: Literal["message"]
    id: str
    status: ItemStatus
    role: Literal["assistant"]
    content: list[OutputText]


class OutputCall(BaseModel):
    """A call of a function."""

    type: Literal["function_call"]
    id: str
    call_id: str
    """By which its result names it."""
    name: str
    arguments: str
    """JSON of an object; half of it where the answer was cut off."""
    status: ItemStatus


class IncompleteDetails(BaseModel):
    """Why an answer was cut off."""

    reason: Literal["max_output_tokens"]
    """Or the end of the model's context."""


class ResponseFailure(BaseModel):
    """What went wrong within a stream."""

    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str


class InputTokensDetails(BaseModel):
    """Of what was read."""

    cached_tokens: int
    """Those whose state was there."""


class OutputTokensDetails(BaseModel):
    """Of what was made."""

    reasoning_tokens: int
    """Always 0."""


class ResponseUsage(BaseModel):
    """What a request cost."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ResponseAnswer(BaseModel):
    """POST /v1/responses."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    background: Literal[False]
    error: ResponseFailure | None
    incomplete_details: IncompleteDetails | None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    model: str
    output: list[OutputMessage | OutputCall]
    """In the order in which the model wrote it."""
    parallel_tool_calls: bool
    previous_response_id: None
    prompt_cache_key: str | None
    safety_identifier: str | None
    store: Literal[False]
    temperature: float
    text: dict[str, Any]
    """As it was given."""
    tool_choice: str | dict[str, Any]
    """As it was given."""
    tools: list[dict[str, Any]]
    """As they were given."""
    top_logprobs: int
    top_p: float
    truncation: Literal["disabled"]
    usage: ResponseUsage | None
    user: str | None
