"""What the routes of the API need: the engine, and what is known about the model behind it."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.serving.adapters.store import AdapterStore
from mamba_slm.serving.api import errors
from mamba_slm.serving.engine.beside import Reader
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
    adapter: str = ""
    """Key of the adapter that makes it another model than `parent`."""
    parent: str | None = None
    """Name of the model that the adapter belongs to."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """One server; every `routes/*.router` gets it."""

    engine: Engine
    """It runs already."""
    model: ServedModel
    adapters: AdapterStore | None = None
    """Further models by the names of adapters."""
    reader: Reader | None = None
    """Of hidden states; None: what runs the model does not show them."""
    hindrances: list[Callable[[], str | None]] = field(default_factory=list)
    """Asked whether there is a reason to take no requests for now, such as that the server is shutting down; for
    GET /ready."""

    def reason_not_ready(self) -> str | None:
        """The first reason to send requests elsewhere."""
        if not self.engine.is_ready:
            return "the engine takes no requests"
        return next((reason for ask in self.hindrances if (reason := ask()) is not None), None)

    @property
    def names(self) -> list[str]:
        """Of the model and its adapters: what `model` in a request may be."""
        return [self.model.name, *([] if self.adapters is None else self.adapters.names)]

    async def served(self, name: str) -> ServedModel:
        """The model that a request means: the base for nothing, or an adapter, read where it is not in memory.

        Raises:
            UnknownModelError: a name that is not served.
            MambaSlmError: the adapter cannot be read now.
        """
        self.check_model(name)
        if not name or name == self.model.name or self.adapters is None:
            return self.model
        try:
            adapter = await asyncio.to_thread(self.adapters.get, name)
        except UnknownNameError as error:  # unloaded since
            raise errors.UnknownModelError("model", name, self.names) from error
        return replace(
            self.model,
            name=name,
            parent=self.model.name,
            adapter=adapter.key,
            template=adapter.template or self.model.template,
        )

    def required_reader(self, model: ServedModel) -> Reader:
        """For embeddings, and for how likely the tokens of a prompt are.

        Raises:
            ConfigError: what runs the model does not show hidden states, or an adapter is meant.
        """
        if model.adapter:
            raise ConfigError(
                f"embeddings and likelihoods of prompts come from the base model, and {model.name!r} is an adapter",
                hint=f"ask {self.model.name!r}, or serve the merged model: mamba-slm adapters merge",
            )
        if self.reader is None:
            raise ConfigError(
                "embeddings and likelihoods of prompts need hidden states, which what runs this model does not show",
                hint="serve it with --runtime torch",
            )
        return self.reader

    def check_model(self, name: str) -> None:
        """Nothing is fine: it means the model that is served.

        Raises:
            UnknownModelError: a name that is not served.
        """
        if name and name not in self.names:
            raise errors.UnknownModelError("model", name, self.names)
