"""What the routes of the API need: the engine, and what is known about the model behind it."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from collections.abc import Callable
from dataclasses import dataclass, field

from mamba_slm.serving.api import errors
from mamba_slm.serving.engine.thread import Engine
from mamba_slm.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """What the API knows about the model behind it."""

    name: str
    tokenizer: Tokenizer
    context_tokens: int
    template: str | None
    """Of chats; None: the model knows documents only."""
    created: int
    """Seconds since 1970."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """One server; every `routes/*.router` gets it."""

    engine: Engine
    """It runs already."""
    model: ServedModel
    hindrances: list[Callable[[], str | None]] = field(default_factory=list)
    """Asked whether there is a reason to take no requests for now, such as that the server is shutting down; for
    GET /ready."""

    def reason_not_ready(self) -> str | None:
        """The first reason to send requests elsewhere."""
        if not self.engine.is_ready:
            return "the engine takes no requests"
        return next((reason for ask in self.hindrances if (reason := ask()) is not None), None)

    def check_model(self, name: str) -> None:
        """Nothing is fine: it means the model that is served.

        Raises:
            UnknownModelError: a name that is not served.
        """
        if name and name != self.model.name:
            raise errors.UnknownModelError("model", name, [self.model.name])
