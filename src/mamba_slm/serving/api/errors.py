"""What goes wrong, in the form that OpenAI's clients understand."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from mamba_slm.core.errors import MambaSlmError, SetupError, UnknownNameError
from mamba_slm.serving.api.guard.caller import NotAllowedError
from mamba_slm.serving.engine.core import QueueFullError

RETRY_AFTER_SECONDS = 1


class UnknownModelError(UnknownNameError):
    """The server has no model of this name."""


def error_body(message: str, *, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """`{"error": {message, type, param, code}}`."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def response_of(error: MambaSlmError) -> JSONResponse:
    """The status and the body for one of our errors."""
    text = f"{error.message} ({error.hint})" if error.hint else error.message
    if isinstance(error, QueueFullError):
        body = error_body(text, kind="rate_limit_error", code="queue_full")
        return JSONResponse(body, status_code=429, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
    if isinstance(error, UnknownModelError):
        body = error_body(text, kind="invalid_request_error", param="model", code="model_not_found")
        return JSONResponse(body, status_code=404)
    if isinstance(error, NotAllowedError):
        return JSONResponse(error_body(text, kind="invalid_request_error", code="key_not_allowed"), status_code=403)
    if isinstance(error, SetupError):
        body = error_body(text, kind="server_error", code="unavailable")
        return JSONResponse(body, status_code=503, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
    if error.exit_code in (2, 5):
        code = "context_length_exceeded" if "context of" in error.message else None
        return JSONResponse(error_body(text, kind="invalid_request_error", code=code), status_code=400)
    return JSONResponse(error_body(text, kind="server_error"), status_code=500)


def first_mistake(error: RequestValidationError, request: Request) -> tuple[str, str]:
    """What is wrong with a body, and with which field of it."""
    kind = request.headers.get("Content-Type", "")
    if request.method == "POST" and "json" not in kind:  # or any page could send requests from a browser unasked
        return f"the body is of type {kind!r}: send JSON with the header Content-Type: application/json", ""
    first = error.errors()[0]
    param = ".".join(str(part) for part in first["loc"] if part != "body")
    words = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        words = "there is no such field; /openapi.json lists them"
    return f"{param}: {words}" if param else words, param


def install(app: FastAPI) -> None:
    """Answer every error in this form."""

    async def ours(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, MambaSlmError)
        return response_of(error)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        message, param = first_mistake(error, request)
        return JSONResponse(error_body(message, kind="invalid_request_error", param=param or None), status_code=400)

    async def by_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        kind = "invalid_request_error" if error.status_code < 500 else "server_error"
        message = f"{request.method} {request.url.path}: {error.detail}"
        return JSONResponse(error_body(message, kind=kind), status_code=error.status_code, headers=error.headers)

    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse(error_body("the server failed; its log says why", kind="server_error"), status_code=500)

    app.add_exception_handler(MambaSlmError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, by_http)
    app.add_exception_handler(Exception, unexpected)
