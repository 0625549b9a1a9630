"""Load and unload adapters: vLLM's addresses and bodies, with names in place of paths, for administrators."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import asyncio
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import Field

from mamba_slm.core.errors import CheckpointError, ConfigError, UnknownNameError
from mamba_slm.serving.adapters.store import AdapterStore
from mamba_slm.serving.api import errors
from mamba_slm.serving.api.guard.caller import require_admin
from mamba_slm.serving.api.schemas import Body
from mamba_slm.serving.api.service import Service
from mamba_slm.serving.model_files import ModelReplacedError


class LoadBody(Body):
    """POST /v1/load_lora_adapter."""

    lora_name: Annotated[str, Field(min_length=1, max_length=512)]
    lora_path: Annotated[str, Field(max_length=4096)] | None = None
    """Refused: adapters lie in one directory, and clients know none of its paths."""
    load_inplace: bool = False
    """Read it anew where it is loaded already."""


class UnloadBody(Body):
    """POST /v1/unload_lora_adapter."""

    lora_name: Annotated[str, Field(min_length=1, max_length=512)]
    lora_int_id: int | None = None
    """Accepted; names are enough."""


def router(service: Service) -> APIRouter:
    """Its routes."""
    routes = APIRouter()

    def store_of(client: Request) -> AdapterStore:
        require_admin(client.scope)
        if service.adapters is None:
            raise ConfigError("this server offers no adapters", hint="start it with --adapter-dir FOLDER")
        return service.adapters

    @routes.post("/v1/load_lora_adapter", response_class=PlainTextResponse)
    async def load(body: LoadBody, client: Request) -> Response:
        """Offer an adapter of the directory, and read it now."""
        store = store_of(client)
        if body.lora_path is not None:
            raise ConfigError(
                "lora_path is refused: adapters are known by their names in --adapter-dir",
                hint=f"leave it out, put the folder into that directory, and send its name (here {body.lora_name!r})",
            )
        if body.lora_name == service.model.name:
            raise ConfigError(f"{body.lora_name!r} is the name of the base model", hint="rename the adapter's folder")
        try:
            await asyncio.to_thread(store.load, body.lora_name, again=body.load_inplace)
        except UnknownNameError as error:
            raise errors.UnknownModelError("adapter", body.lora_name, store.found()) from error
        except CheckpointError as error:
            text = f"{error.message} ({error.hint})" if error.hint else error.message
            status = 409 if isinstance(error, ModelReplacedError) else 400
            return JSONResponse(errors.error_body(text, kind="invalid_request_error"), status_code=status)
        return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' added successfully.")

    @routes.post("/v1/unload_lora_adapter", response_class=PlainTextResponse)
    async def unload(body: UnloadBody, client: Request) -> PlainTextResponse:
        """Offer an adapter no more. Requests that run with it go on; its memory is freed with the last of them."""
        store = store_of(client)
        try:
            running = store.unload(body.lora_name)
        except UnknownNameError as error:
            raise errors.UnknownModelError("adapter", body.lora_name, store.names) from error
        rest = f" {running} requests go on with it." if running else ""
        return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' removed successfully.{rest}")

    return routes
