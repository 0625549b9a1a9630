"""Small applications behind the guard, over real sockets or without."""

import asyncio
import contextlib
import socket
import threading

import httpx
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from mamba_slm.core.listening import listen
from mamba_slm.serving.api import errors
from mamba_slm.serving.api.guard.caller import charge, require_admin, tenant
from mamba_slm.serving.api.guard.connections import guarded
from mamba_slm.serving.api.guard.install import install
from mamba_slm.serving.api.guard.settings import GuardSettings
from mamba_slm.serving.api.server import Server


class Small:
    """An application that says what it got, and what became of requests that take long."""

    def __init__(self, settings=None, **more):
        self.settings = settings or GuardSettings(**more)
        self.lines = []
        self.begun, self.ended = threading.Event(), threading.Event()
        self.may_end = asyncio.Event()
        self.app = FastAPI()
        errors.install(self.app)
        self.app.get("/health")(self.health)
        self.app.get("/metrics")(self.health)
        self.app.post("/v1/echo")(self.echo)
        self.app.post("/v1/admin")(self.admin)
        self.app.post("/v1/long")(self.long)
        self.app.post("/v1/stream")(self.stream)
        self.app.post("/v1/much")(self.much)
        self.app.post("/v1/broken")(self.broken)
        install(self.app, self.settings, write=self.lines.append)

    def http(self, client=("127.0.0.1", 5)):
        """A client without sockets."""
        transport = httpx.ASGITransport(app=self.app, client=client, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")

    async def health(self):
        return {"status": "ok"}

    async def echo(self, request: Request):
        body = await request.body()
        charge(prompt_tokens=len(body), new_tokens=1)
        return {"bytes": len(body), "tenant": tenant("nobody"), "id": request.state.request_id}

    async def admin(self, request: Request):
        require_admin(request.scope)
        return {}

    async def long(self):
        with self._noted():
            await self.may_end.wait()
        return {}

    async def stream(self):
        async def events():
            with self._noted():
                while True:
                    yield "data: {}\n\n"
                    await asyncio.sleep(0.01)

        return StreamingResponse(events(), media_type="text/event-stream")

    async def much(self):
        async def blocks():
            with self._noted():
                while True:
                    yield bytes(65536)
                    await asyncio.sleep(0)

        return StreamingResponse(blocks())

    async def broken(self):
        return JSONResponse(1 / 0)

    @contextlib.contextmanager
    def _noted(self):
        self.begun.set()
        try:
            yield
        finally:
            self.ended.set()


class Listening:
    """An application at a port of loopback, in a thread."""

    def __init__(self, app, settings):
        self.socket = listen("127.0.0.1", 0)
        self.address = self.socket.getsockname()
        self.url = f"http://127.0.0.1:{self.address[1]}"
        config = uvicorn.Config(
            app,
            http=guarded(settings),
            ws="none",
            log_config=None,
            lifespan="off",
            timeout_keep_alive=settings.keep_alive_seconds,
            timeout_graceful_shutdown=1,
        )
        self.server = Server(config)
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server._serve([self.socket])))
        self.thread.start()
        self.http = httpx.Client(base_url=self.url, timeout=60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.http.close()
        self.server.should_exit = True
        self.thread.join()
        self.socket.close()

    def connect(self):
        """A plain socket; what it reads is there within a minute, or never."""
        return socket.create_connection(self.address, timeout=60)

    def told(self, *pieces, half_close=False):
        """Everything that the server sends to these bytes until it closes."""
        with self.connect() as connection:
            for piece in pieces:
                connection.sendall(piece)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            return everything(connection)


def everything(connection):
    """What comes until the other side closes."""
    read = b""
    while piece := connection.recv(65536):
        read += piece
    return read
