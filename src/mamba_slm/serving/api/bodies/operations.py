"""What the addresses for operation answer, and every error."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from typing import Literal

from pydantic import BaseModel


class HealthAnswer(BaseModel):
    """GET /health."""

    status: Literal["ok", "down"]
    running: int
    """Requests that have a slot."""
    waiting: int


class ReadyAnswer(BaseModel):
    """GET /ready."""

    status: Literal["ready", "not ready"]
    reason: str | None
    """Why not."""


class VersionAnswer(BaseModel):
    """GET /version."""

    version: str


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    """The field of the request that is wrong."""
    code: str | None


class ErrorAnswer(BaseModel):
    """Every error of OpenAI's addresses."""

    error: ErrorDetail
