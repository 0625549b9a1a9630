"""Answers of OpenAI's addresses, for the OpenAPI document; what is sent is made by `answers` and its neighbours."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from typing import Any, Literal

from pydantic import BaseModel

EVENT = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
"""A server-sent event; its data is JSON, or `[DONE]`."""
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": EVENT}}, "description": "Whole or streamed"}
}
"""Of addresses that answer a stream to those who ask for one."""
FinishReason = Literal["stop", "length", "tool_calls"]


class Model(BaseModel):
    """What is served under a name."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int
    parent: str | None
    """The base of an adapter."""


class Models(BaseModel):
    """GET /v1/models."""

    object: Literal["list"]
    data: list[Model]


class PromptTokensDetails(BaseModel):
    """Of a prompt."""

    cached_tokens: int
    """Those whose state was there."""


class UsageAnswer(BaseModel):
    """What a request cost."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails | None = None


class CompletionLogprobs(BaseModel):
    """Lists side by side."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoiceAnswer(BaseModel):
    """One text."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason


class CompletionAnswer(BaseModel):
    """POST /v1/completions."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[CompletionChoiceAnswer]
    usage: UsageAnswer


class CalledFunctionAnswer(BaseModel):
    """With its arguments as JSON text."""

    name: str
    arguments: str


class ToolCallAnswer(BaseModel):
    """A call."""

    id: str
    type: Literal["function"]
    function: CalledFunctionAnswer


class MessageAnswer(BaseModel):
    """What the model says."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    tool_calls: list[ToolCallAnswer] | None = None


class TopLogprob(BaseModel):
    """A token and how likely it was."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """One that was made, and the likeliest in its place."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(BaseModel):
    """Of a choice."""

    content: list[TokenLogprob]
    refusal: None


class ChatChoiceAnswer(BaseModel):
    """One answer."""

    index: int
    message: MessageAnswer
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatAnswer(BaseModel):
    """POST /v1/chat/completions."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[ChatChoiceAnswer]
    usage: UsageAnswer
