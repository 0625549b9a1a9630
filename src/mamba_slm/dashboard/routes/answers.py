"""JSON in and out, and errors in one form: `{"error": …, "hint": …}`."""

from __future__ import annotations

import mamba_slm.dashboard.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mamba_slm.core.errors import DataError, DiskFullError, MambaSlmError, RunLockedError, UnknownNameError, UsageError
from mamba_slm.runs.jsonl import without_nan

MOST_WHOLE = 10**9


def as_json(content: Any, status: int = 200) -> Response:
    """An answer; NaN and infinity become null."""
    text = json.dumps(without_nan(content), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Response(text.encode("utf-8", errors="replace"), status, media_type="application/json")


def as_error(error: MambaSlmError) -> Response:
    """An error of ours."""
    return as_json({"error": error.message, "hint": error.hint}, status_of(error))


def status_of(error: MambaSlmError) -> int:
    """The HTTP status that fits best."""
    if isinstance(error, UnknownNameError):
        return 404
    if isinstance(error, RunLockedError):
        return 409
    if isinstance(error, DiskFullError):
        return 507
    return 400 if isinstance(error, UsageError | DataError) else 500


async def json_object(request: Request) -> dict[str, Any]:
    """The body as an object.

    Raises:
        UsageError: it is not JSON, or no object.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UsageError("the body must be application/json")
    try:
        value = json.loads(await request.body())
        json.dumps(value, ensure_ascii=False).encode()  # half a character could be neither stored nor sent on
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise UsageError("the body must be a JSON object")
    return value


def number_in(request: Request, name: str) -> float | None:
    """A number of the address; None when it is not there.

    Raises:
        UsageError: it is no number.
    """
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise UsageError(f"{name} must be a number, got {text[:40]!r}") from error
    if value != value:
        raise UsageError(f"{name} must be a number")
    return value


def whole_in(request: Request, name: str, default: int = 0) -> int:
    """A whole number of the address, from 0 to `MOST_WHOLE`.

    Raises:
        UsageError: it is no number.
    """
    value = number_in(request, name)
    return default if value is None else int(min(max(value, 0.0), MOST_WHOLE))
