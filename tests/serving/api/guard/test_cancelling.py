"""A client that leaves frees its slot within a step of the engine, streamed or not, early or late."""

import json
import threading

import pytest

from mamba_slm.serving.api.app import create_app
from mamba_slm.serving.api.guard.settings import GuardSettings
from mamba_slm.serving.api.service import ServedModel, Service
from mamba_slm.serving.engine.thread import Engine
from serving.api.guard.servers import Listening
from serving.engines import Engine as Cores
from small_models import small_tokenizer, varied_model

MODEL = varied_model(max_context_tokens=256).eval().requires_grad_(False)
TOKENIZER = small_tokenizer()


class Gate:
    """Lets the engine make one step when told, and counts them."""

    def __init__(self, core):
        self.core, self.step, self.is_open = core, core.step, False
        self.may, self.done = threading.Semaphore(0), threading.Semaphore(0)
        core.step = self.gated

    def gated(self):
        if not self.is_open:
            self.may.acquire()
        has_work = self.step()
        self.done.release()
        return has_work

    def one(self):
        self.may.release()
        self.done.acquire()

    def open(self):
        self.is_open = True
        self.may.release(1000)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("steps", [1, 3])
def test_the_slot_is_free_after_the_next_step(stream, steps):
    cores = Cores(MODEL, tokenizer=TOKENIZER)
    gate = Gate(cores.core)
    engine = Engine(cores.core)
    engine.start()
    model = ServedModel(name="small", tokenizer=TOKENIZER, context_tokens=256, template=None, created=1)
    settings = GuardSettings()
    app = create_app(Service(engine=engine, model=model), guard=settings)
    body = json.dumps({"prompt": "x = 1\n" * 20, "max_tokens": 100, "stream": stream, "ignore_eos": True}).encode()
    try:
        with Listening(app, settings) as listening:
            with listening.connect() as connection:
                head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
                connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
                for _ in range(steps):
                    gate.one()
                assert cores.core.num_running == 1
            while engine._inbox.empty():  # the server has seen the client leave
                listening.http.get("/health")
            gate.one()  # the step that was waiting already
            gate.one()
            assert cores.core.num_running == 0 == cores.core.num_waiting
            assert cores.pool.num_free_slots == 4
            gate.open()
    finally:
        gate.open()
        engine.stop()
