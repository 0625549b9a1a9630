"""The guard, put around an application."""

from __future__ import annotations

import sys
from collections.abc import Callable

import mamba_slm.serving.api.libraries  # noqa: F401 (it says what to install)

# isort: split
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from mamba_slm.serving.api.guard.access import Access
from mamba_slm.serving.api.guard.exchange import Exchange
from mamba_slm.serving.api.guard.hosts import HostCheck
from mamba_slm.serving.api.guard.keys import KeyRing
from mamba_slm.serving.api.guard.limits import Allowances
from mamba_slm.serving.api.guard.records import Records
from mamba_slm.serving.api.guard.settings import GuardSettings

EXPOSED = [
    "X-Request-Id",
    "Retry-After",
    *(f"X-RateLimit-{value}-{what}" for value in ("Limit", "Remaining", "Reset") for what in ("Requests", "Tokens")),
]


def print_line(line: str) -> None:
    """To stderr."""
    print(line, file=sys.stderr, flush=True)


def install(app: FastAPI, settings: GuardSettings, *, write: Callable[[str], None] = print_line) -> None:
    """Put the guard around an application; its middlewares must all have been added before.

    Args:
        write: takes one line of the log; must not block.

    Raises:
        DataError: the file of keys cannot be used.
    """
    keys = None if settings.api_keys is None else KeyRing(settings.api_keys, say=write)
    # the last one added sees a request first
    app.add_middleware(Exchange, settings=settings)  # type: ignore[arg-type]
    app.add_middleware(Access, settings=settings, keys=keys, allowances=Allowances())  # type: ignore[arg-type]
    if settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=EXPOSED,
        )
    app.add_middleware(HostCheck, allowed=settings.allowed_hosts)  # type: ignore[arg-type]
    app.add_middleware(Records, form=settings.log, log_prompts=settings.log_prompts, write=write)  # type: ignore[arg-type]
