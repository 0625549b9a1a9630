"""Bodies of /tokenize and /detokenize, in vLLM's form."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from typing import Annotated

from pydantic import BaseModel, Field

from mamba_slm.serving.api.bodies.strict import Body, Text, TokenIds
from mamba_slm.serving.api.schemas import ChatMessage
from mamba_slm.serving.api.tools.bodies import Tool


class TokenizeText(Body):
    """A text."""

    model: Annotated[str, Field(max_length=512)] = ""
    prompt: Text
    add_special_tokens: bool = True
    """Begin with the token that begins a document, as /v1/completions does."""
    return_token_strs: bool = False


class TokenizeChat(Body):
    """A conversation, as /v1/chat/completions reads it."""

    model: Annotated[str, Field(max_length=512)] = ""
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=4096)]
    add_generation_prompt: bool = True
    return_token_strs: bool = False
    tools: Annotated[list[Tool], Field(max_length=512)] | None = None


class TokenizeAnswer(BaseModel):
    """POST /tokenize."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class DetokenizeBody(Body):
    """POST /detokenize."""

    model: Annotated[str, Field(max_length=512)] = ""
    tokens: TokenIds


class DetokenizeAnswer(BaseModel):
    """The text."""

    prompt: str
