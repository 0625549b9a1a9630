"""Bodies of /v1/embeddings."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from mamba_slm.serving.api.bodies.strict import Body, Text, TokenIds


class EmbeddingsBody(Body):
    """POST /v1/embeddings."""

    model: Annotated[str, Field(max_length=512)] = ""
    input: (
        Text
        | Annotated[list[Text], Field(min_length=1, max_length=2048)]
        | Annotated[TokenIds, Field(min_length=1)]
        | Annotated[list[Annotated[TokenIds, Field(min_length=1)]], Field(min_length=1, max_length=2048)]
    )
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1, le=2**31)] | None = None
    user: Annotated[str, Field(max_length=512)] | None = None
    pooling: Literal["mean", "last"] = "mean"
    """Of the hidden states: all tokens on average, or the last."""


class Embedding(BaseModel):
    """Of one text."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str
    """Of unit length; in base64 as little-endian float32."""


class EmbeddingsUsage(BaseModel):
    """What was read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    """POST /v1/embeddings."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingsUsage
