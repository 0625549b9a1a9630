"""Servers over the small model, for tests of what clients see."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import httpx
import openai
import torch
import uvicorn

from mamba_slm.core.listening import listen
from mamba_slm.serving.api.app import create_app
from mamba_slm.serving.api.service import ServedModel, Service
from mamba_slm.serving.cache.prefix_cache import CacheSettings
from mamba_slm.serving.engine.beside import Reader
from mamba_slm.serving.engine.executor import TorchExecutor
from mamba_slm.serving.engine.thread import Engine
from mamba_slm.text.chat import CHATML_TEMPLATE
from serving.engines import Engine as Cores
from small_models import small_tokenizer, varied_model


class Served:
    """A server on loopback in a thread, with OpenAI's own client and a plain one. Close it at the end."""

    def __init__(
        self,
        *,
        context_tokens=256,
        template: str | None = CHATML_TEMPLATE,
        name="small",
        service=None,
        guard=None,
        **settings,
    ):
        self.model = varied_model(max_context_tokens=context_tokens).eval().requires_grad_(False)
        self.tokenizer = small_tokenizer()
        self.cores = Cores(self.model, tokenizer=self.tokenizer, **settings)
        self.engine = Engine(self.cores.core)
        self.engine.start()
        model = ServedModel(
            name=name, tokenizer=self.tokenizer, context_tokens=context_tokens, template=template, created=1
        )
        self.service = Service(engine=self.engine, model=model, reader=Reader(self.model))
        if service is not None:
            self.service = replace(self.service, **service(self))
        self.app = create_app(self.service, guard=guard)
        self.socket = listen("127.0.0.1", 0)
        self.server = uvicorn.Server(uvicorn.Config(self.app, log_level="error", lifespan="off"))
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve(sockets=[self.socket])))
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.client = openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)
        self.http = httpx.Client(base_url=self.url, timeout=300)

    def do(self, action):
        """On the engine's thread, between two steps."""
        self.engine._inbox.put(action)

    def fail_after(self, steps):
        """Let the engine make so many steps, then fail at every one: what is streamed has begun and cannot be done."""
        step, left = self.engine.core.step, iter(range(steps))

        def failing():
            if next(left, None) is None:
                raise RuntimeError("out of luck")
            return step()

        self.engine.core.step = failing

    def complete(self, **body):
        return self.http.post("/v1/completions", json={"prompt": "def f(", "max_tokens": 4, "temperature": 0} | body)

    def close(self):
        self.client.close()
        self.http.close()
        self.server.should_exit = True
        self.thread.join()
        self.engine.stop()
        self.socket.close()


class Reciting(TorchExecutor):
    """A model that has learned one answer by heart, token by token, whatever it is asked."""

    answer: list[int]
    starts: dict[int, int]

    def read(self, pieces):
        starts = self.__dict__.setdefault("starts", {})
        reads = super().read(pieces)
        for piece in pieces:
            starts[id(piece.sequence)] = piece.sequence.num_tokens
        return [replace(read, logits=self._recited(0)) for read in reads]

    def step(self, sequences, tokens):
        super().step(sequences, tokens)
        return torch.stack([self._recited(one.num_tokens - self.starts[id(one)]) for one in sequences])

    def _recited(self, place):
        logits = torch.zeros(self.config.vocab_size)
        logits[self.answer[min(place, len(self.answer) - 1)]] = 50.0
        return logits


def reciting(text, **settings):
    """A server whose model answers this."""
    tokenizer = small_tokenizer()
    answer = [*tokenizer.encode(text, continues=True), tokenizer.special_id("<|im_end|>")]
    executor = type("Reciter", (Reciting,), {"answer": answer})
    return Served(executor=executor, cache=CacheSettings(max_bytes=0), **settings)
