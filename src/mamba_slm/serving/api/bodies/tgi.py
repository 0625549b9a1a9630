"""Bodies of /generate, /generate_stream, / and /info, in the form of text-generation-inference."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from mamba_slm.serving.api.bodies.strict import Body, JsonObject, Text


class Grammar(Body):
    """What the text must follow."""

    type: Literal["json", "json_schema", "regex"]
    value: JsonObject | Text


class Parameters(Body):
    """How to go on."""

    best_of: Annotated[int, Field(ge=1, le=128)] | None = None
    temperature: Annotated[float, Field(gt=0, le=100)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    top_k: Annotated[int, Field(gt=0, le=2**31)] | None = None
    top_p: Annotated[float, Field(gt=0, lt=1)] | None = None
    typical_p: Annotated[float, Field(gt=0, lt=1)] | None = None
    do_sample: bool = False
    max_new_tokens: Annotated[int, Field(ge=1, le=2**31)] | None = 100
    return_full_text: bool | None = None
    stop: Annotated[list[Text], Field(max_length=64)] = Field(default=[])
    truncate: Annotated[int, Field(ge=1, le=2**31)] | None = None
    """Keep only so many tokens at the end of the prompt."""
    watermark: Literal[False] = False
    """Accepted; nothing is marked."""
    details: bool = False
    decoder_input_details: bool = False
    seed: Annotated[int, Field(ge=0, lt=2**64)] | None = None
    top_n_tokens: Annotated[int, Field(ge=0, le=20)] | None = None
    grammar: Grammar | None = None
    adapter_id: Annotated[str, Field(max_length=512)] | None = None
    """A name that /v1/models lists."""


class GenerateBody(Body):
    """POST /generate and /generate_stream."""

    inputs: Text
    parameters: Parameters = Parameters()


class CompatibleBody(GenerateBody):
    """POST /."""

    stream: bool = False


class PrefillToken(BaseModel):
    """Of the prompt."""

    id: int
    text: str
    logprob: float | None


class Token(BaseModel):
    """A new one."""

    id: int
    text: str
    logprob: float
    special: bool


class SequenceDetails(BaseModel):
    """How a text came about."""

    finish_reason: Literal["length", "eos_token", "stop_sequence"]
    generated_tokens: int
    seed: int | None
    prefill: list[PrefillToken]
    tokens: list[Token]
    top_tokens: list[list[Token]] | None = None


class OneOfBest(SequenceDetails):
    """One of the texts that were not best."""

    generated_text: str


class Details(SequenceDetails):
    """Of the text that is answered."""

    best_of_sequences: list[OneOfBest] | None = None


class GenerateAnswer(BaseModel):
    """POST /generate."""

    generated_text: str
    details: Details | None = None


class GenerateError(BaseModel):
    """Every error of these addresses."""

    error: str
    error_type: Literal["validation", "overloaded", "unavailable", "generation"]


class InfoAnswer(BaseModel):
    """GET /info."""

    model_id: str
    model_pipeline_tag: Literal["text-generation"]
    max_best_of: int
    max_stop_sequences: int
    max_input_tokens: int
    max_total_tokens: int
    version: str
