"""The application: one line for each group of addresses."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

from mamba_slm import __version__
from mamba_slm.serving.api import errors
from mamba_slm.serving.api.bodies.operations import ErrorAnswer
from mamba_slm.serving.api.guard.install import install as install_guard
from mamba_slm.serving.api.guard.install import print_line
from mamba_slm.serving.api.guard.settings import GuardSettings
from mamba_slm.serving.api.routes import adapters, chat, completions, embeddings, health, models, responses, tgi, tokens
from mamba_slm.serving.api.service import Service
from mamba_slm.serving.metrics import exposition as metrics


def create_app(
    service: Service, *, guard: GuardSettings | None = None, write: Callable[[str], None] = print_line
) -> FastAPI:
    """The application; the engine runs already.

    Args:
        guard: who may ask for what; None: no guard at all, for tests of what is behind it.
        write: takes a line of the log.
    """
    wrong: dict[int | str, dict[str, Any]] = {status: {"model": ErrorAnswer} for status in ("4XX", "5XX")}
    app = FastAPI(
        title="mamba-slm",
        version=__version__,
        description="A hybrid Mamba-Transformer language model.",
        responses=wrong,
    )
    errors.install(app)
    app.include_router(health.router(service))
    app.include_router(models.router(service))
    app.include_router(adapters.router(service))
    app.include_router(completions.router(service))
    app.include_router(chat.router(service))
    app.include_router(responses.router(service))
    app.include_router(embeddings.router(service))
    app.include_router(tokens.router(service))
    app.include_router(tgi.router(service))
    if guard is not None:
        install_guard(app, guard, write=write)
    metrics.install(app, service)  # outside of the guard: what that refuses is counted, too
    return app
