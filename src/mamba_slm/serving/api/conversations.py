"""A conversation as requests of the engine, whichever address it came to."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import asyncio
from dataclasses import dataclass

from mamba_slm.serving.api.prompts import RenderedPrompt, chat_prompt, engine_requests
from mamba_slm.serving.api.schemas import ChatBody
from mamba_slm.serving.api.service import ServedModel, Service
from mamba_slm.serving.engine.request import EngineRequest


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a conversation asks of the engine."""

    model: ServedModel
    prompt: RenderedPrompt
    requests: list[EngineRequest]
    """One for each answer."""

    @property
    def has_logprobs(self) -> bool:
        """Whether it is told how likely tokens were."""
        return self.requests[0].logprobs is not None


async def asked(body: ChatBody, service: Service) -> Asked:
    """Everything but the answers.

    Raises:
        UnknownModelError: a name that is not served.
        ConfigError: the model has no template, or what is asked for means nothing.
        DataError: the template refuses the messages.
    """
    model = await service.served(body.model)
    prompt = await asyncio.to_thread(chat_prompt, body, model)
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    limit = body.max_completion_tokens or body.max_tokens
    requests = engine_requests(body, prompt, model, max_new_tokens=limit, logprobs=logprobs)
    return Asked(model=model, prompt=prompt, requests=requests)
