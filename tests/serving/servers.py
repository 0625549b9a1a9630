"""A server on loopback in a thread, with the small model behind it."""

from __future__ import annotations

import asyncio
import threading

import httpx
import uvicorn

from mamba_slm.serving.api.app import create_app
from mamba_slm.serving.api.server import listen
from mamba_slm.serving.api.service import ServedModel, Service
from mamba_slm.serving.engine.thread import Engine
from mamba_slm.text.chat import CHATML_TEMPLATE
from serving.engines import Engine as Cores
from small_models import small_tokenizer, varied_model

CONTEXT_TOKENS = 256
MODEL = varied_model(max_context_tokens=CONTEXT_TOKENS).eval().requires_grad_(False)
TOKENIZER = small_tokenizer()


class Served:
    """Close it at the end."""

    def __init__(self, *, template=CHATML_TEMPLATE, name="small", **settings):
        self.cores = Cores(MODEL, tokenizer=TOKENIZER, **settings)
        self.engine = Engine(self.cores.core)
        self.engine.start()
        model = ServedModel(name=name, tokenizer=TOKENIZER, context_tokens=CONTEXT_TOKENS, template=template, created=1)
        self.socket = listen("127.0.0.1", 0)
        app = create_app(Service(engine=self.engine, model=model))
        self.server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve(sockets=[self.socket])))
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.http = httpx.Client(base_url=self.url, timeout=60)

    def complete(self, **body):
        return self.http.post("/v1/completions", json={"prompt": "def f(", "max_tokens": 4, "temperature": 0} | body)

    def close(self):
        self.http.close()
        self.server.should_exit = True
        self.thread.join()
        self.engine.stop()
        self.socket.close()
