"""Bodies of requests: the fields of OpenAI's API, and the sampling fields that vLLM and llama.cpp add. Others are
refused by name, as OpenAI does: a typing mistake must not change what is made without a word."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from mamba_slm.core.errors import ConfigError
from mamba_slm.serving.api.bodies.strict import Body, JsonObject, Text, TokenIds, at_most
from mamba_slm.serving.api.tools.bodies import Tool, ToolCall, ToolChoice

MOST_TEXTS = 2048
"""That one request may ask for: prompts by answers to each."""


class StreamOptions(Body):
    """Of a streamed answer."""

    include_usage: bool = False
    include_obfuscation: bool = False
    """Accepted; nothing is padded."""


class Drawing(Body):
    """How tokens are chosen and the work is done: what completions, chats and responses have in common."""

    model: Annotated[str, Field(max_length=512)] = ""
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    stop: Text | Annotated[list[Text], Field(max_length=64)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: Annotated[dict[str, Annotated[float, Field(ge=-100, le=100)]], at_most(4096)] | None = None
    stream: bool | None = False
    user: Annotated[str, Field(max_length=512)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=2**31)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    typical_p: Annotated[float, Field(gt=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    ignore_eos: bool = False
    """Go on behind the end token, to measure speed."""
    cache_salt: Annotated[str, Field(max_length=512)] = ""
    """Only requests of equal salt take over each other's states."""
    cache_prompt: bool = True
    """Whether states of earlier prompts may be taken over, and are kept."""
    speculative: bool = True
    """Whether tokens may be guessed ahead where the server does so; the answer is the same."""
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    """Smaller is more urgent."""


class Sampling(Drawing):
    """What completions and chats have in common."""

    max_tokens: Annotated[int, Field(ge=1, le=2**31)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = 1
    stream_options: StreamOptions | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end an answer."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(given)

    @property
    def biases(self) -> dict[int, float] | None:
        """By token id; -100 forbids a token, as OpenAI says it should.

        Raises:
            ConfigError: a key that is no token id.
        """
        biases: dict[int, float] = {}
        for key, bias in (self.logit_bias or {}).items():
            if not key.isascii() or not key.isdigit() or len(key) > 9:
                raise ConfigError(f"logit_bias has the key {key[:40]!r}, which is no token id")
            biases[int(key)] = float("-inf") if bias == -100 else bias
        return biases or None


class CompletionBody(Sampling):
    """POST /v1/completions."""

    prompt: (
        Text
        | Annotated[list[Text], Field(max_length=2048)]
        | TokenIds
        | Annotated[list[TokenIds], Field(max_length=2048, fail_fast=True)]
    )
    echo: bool | None = False
    max_tokens: Annotated[int, Field(ge=0, le=2**31)] | None = None
    """0: with `echo`, to learn how likely the prompt is."""
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    best_of: Annotated[int, Field(ge=1, le=128)] | None = None
    suffix: Text | None = None

    @model_validator(mode="after")
    def check(self) -> Self:
        """What fields say together."""
        if self.suffix:
            raise ValueError("suffix cannot be followed: the model was not trained to fill in text")
        if self.max_tokens == 0 and not self.echo:
            raise ValueError("max_tokens is 0: nothing would be answered, except the prompt with echo")
        if self.max_tokens == 0 and self.stream:
            raise ValueError("max_tokens is 0: there is nothing to stream")
        if self.best_of is not None and self.best_of < (self.n or 1):
            raise ValueError(f"best_of is {self.best_of}, less than n, which is {self.n}")
        if len(self.prompts) * self.num_made > MOST_TEXTS:
            asked = f"{len(self.prompts):,} prompts with {self.num_made} answers each"
            raise ValueError(f"{asked} are more than {MOST_TEXTS:,} texts: send several requests")
        if self.num_made > (self.n or 1) and self.stream:
            raise ValueError("best_of cannot be streamed")
        return self

    @property
    def num_made(self) -> int:
        """Texts for each prompt, of which the best are answered."""
        return max(self.best_of or 1, self.n or 1)

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """One or more."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if self.prompt and isinstance(self.prompt[0], int):
            return [self.prompt]  # type: ignore[list-item]
        return self.prompt  # type: ignore[return-value]


class TextPart(Body):
    """A part of a message's content."""

    type: Literal["text"]
    text: Text


class ChatMessage(Body):
    """One message. What clients send back beside the text of an answer is accepted and means nothing."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | Annotated[list[TextPart], Field(max_length=1024)] | None = None
    name: Annotated[str, Field(max_length=512)] | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=512)] | None = None
    tool_call_id: Annotated[str, Field(max_length=512)] | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None

    @property
    def text(self) -> str:
        """The parts of its content together."""
        content = self.content or ""
        return content if isinstance(content, str) else "".join(part.text for part in content)


class JsonSchema(BaseModel):
    """Of `response_format`."""

    name: str = "response"
    description: str | None = None
    schema_: Annotated[JsonObject, Field(alias="schema")] = {}
    strict: bool | None = None


class ResponseFormat(Body):
    """What an answer must look like."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class ChatBody(Sampling):
    """POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=4096)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=2**31)] | None = None
    logprobs: bool | None = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Field(max_length=512)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = True
    metadata: Annotated[dict[str, str], at_most(64)] | None = None
    store: bool | None = None

    @property
    def answer_schema(self) -> dict[str, Any] | None:
        """JSON schema that the text of an answer follows; None: it is free."""
        wanted = self.response_format
        if wanted is None or wanted.type == "text":
            return None
        return {"type": "object"} if wanted.json_schema is None else wanted.json_schema.schema_
