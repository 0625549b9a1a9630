"""The application: one line for each group of addresses."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from fastapi import FastAPI

from mamba_slm import __version__
from mamba_slm.serving.api import errors
from mamba_slm.serving.api.routes import adapters, chat, completions, embeddings, health, models, tgi, tokens
from mamba_slm.serving.api.service import Service
from mamba_slm.serving.metrics import exposition as metrics


def create_app(service: Service) -> FastAPI:
    """The application; the engine runs already."""
    app = FastAPI(title="mamba-slm", version=__version__, description="A hybrid Mamba-Transformer language model.")
    errors.install(app)
    app.include_router(health.router(service))
    app.include_router(models.router(service))
    app.include_router(adapters.router(service))
    app.include_router(completions.router(service))
    app.include_router(chat.router(service))
    app.include_router(embeddings.router(service))
    app.include_router(tokens.router(service))
    app.include_router(tgi.router(service))
    metrics.install(app, service)
    return app
