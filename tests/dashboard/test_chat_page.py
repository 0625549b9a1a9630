"""Questions to servers: what is passed on, what is refused, and what an error looks like."""

import asyncio
import json
import os
import threading
from collections.abc import AsyncGenerator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dashboard.made_runs import client_of, make_run
from mamba_slm.core.errors import UsageError
from mamba_slm.dashboard.reading.servers import servers_in
from mamba_slm.dashboard.talking import address_of, question_of, stream
from mamba_slm.runs.jobs import list_jobs, new_folder, write_state
from mamba_slm.runs.process import machine_identity, process_start

OWN = {"Origin": "http://localhost:8888"}
HELLO = [{"role": "user", "content": "Hello"}]


class Answering(BaseHTTPRequestHandler):
    """A server of OpenAI's API that says what it was asked."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = self.headers.get("Authorization", "none")
        if asked.get("model") == "missing":
            body, status = json.dumps({"error": {"message": "no such model"}}).encode(), 404
        else:
            seen = json.dumps({"choices": [{"delta": {"content": f"{self.path} {key} {json.dumps(asked)}"}}]})
            body, status = f"data: {seen}\n\ndata: [DONE]\n\n".encode(), 200
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        body = b'{"data": [{"id": "one"}, {"id": "two"}]}' if self.path == "/v1/models" else b"?"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments):
        pass


@contextmanager
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_address[1]}"
        found.shutdown()


def served_job(home, run, address):
    """The job of a server, as it looks while this very process is its worker."""
    path = new_folder(home)
    job = {
        "words": ["mamba-slm", "serve", str(run)],
        "folder": str(home),
        "created": 1,
        "is_queued": False,
        "run": str(run),
    }
    (path / "job.json").write_text(json.dumps(job))
    me = {"pid": os.getpid(), "process_start": process_start(os.getpid()), "machine": machine_identity()}
    write_state(path, state="running", **me)
    (path / "log.txt").write_text(f"loading\nserving {run.name} at {address}/v1, stop with Ctrl-C\n")
    return path.name


def test_an_answer_comes_from_the_server_that_was_started_here(tmp_path):
    run = make_run(tmp_path)
    with server() as address:
        id = served_job(tmp_path, run.path, address)
        client = client_of(tmp_path)
        (row,) = client.get("/api/chat/models").json()["servers"]
        assert (row["state"], row["address"], row["run"]) == ("ready", address, run.name)
        body = {"home": 0, "job": id, "messages": HELLO, "temperature": 0.5, "seed": 7, "max_tokens": 9}
        answer = client.post("/api/chat/answer", json=body, headers=OWN)
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "/v1/chat/completions none" in answer.text and "Hello" in answer.text and '\\"seed\\": 7' in answer.text
        text = client.post("/api/chat/answer", json=body | {"continues": True}, headers=OWN).text
        assert "/v1/completions" in text and '\\"prompt\\": \\"Hello\\"' in text


def test_a_server_elsewhere_is_asked_with_its_key_and_its_errors_are_shown(tmp_path):
    with server() as address:
        client = client_of(tmp_path)
        looked = client.post("/api/chat/look", json={"address": f"{address}/v1/"}, headers=OWN).json()
        assert looked == {"address": address, "names": ["one", "two"]}
        body = {"address": address, "model": "one", "key": "sk-secret", "messages": HELLO}
        assert "Bearer sk-secret" in client.post("/api/chat/answer", json=body, headers=OWN).text
        body["model"] = "missing"
        assert "no such model" in client.post("/api/chat/answer", json=body, headers=OWN).text
    gone = client.post("/api/chat/answer", json=body, headers=OWN).text
    assert "does not answer" in json.loads(gone.removeprefix("data: "))["error"]
    assert client.post("/api/chat/look", json={"address": address}, headers=OWN).status_code == 500


def test_closing_the_answer_closes_the_connection_to_the_server():
    async def scene():
        gone = asyncio.Event()

        async def endless(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {}\n\n")
            await writer.drain()
            while await reader.read(65536):
                pass
            gone.set()
            writer.close()

        listening = await asyncio.start_server(endless, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        pieces = stream(f"http://127.0.0.1:{port}", *question_of({"messages": HELLO}))
        assert isinstance(pieces, AsyncGenerator)
        assert await anext(pieces) == b"data: {}\n\n"
        await pieces.aclose()
        await asyncio.wait_for(gone.wait(), 200)
        listening.close()
        await listening.wait_closed()

    asyncio.run(scene())


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": []},
        {"messages": "x"},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"role": "user", "content": [1]}]},
        {"messages": HELLO, "temperature": "hot"},
        {"messages": HELLO, "temperature": -1},
        {"messages": HELLO, "top_p": True},
        {"messages": HELLO, "max_tokens": 0},
        {"messages": HELLO * 501},
        {"messages": [{"role": "user", "content": "x" * 1_000_001}]},
    ],
)
def test_what_is_no_question_is_refused(body):
    with pytest.raises(UsageError):
        question_of(body)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "localhost:8000",
        "file:///etc/passwd",
        "javascript:alert(1)",
        None,
        7,
        "http://",
        "http://[",
        "http://a:b",
        "http://a:99999",
    ],
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(UsageError):
        address_of(address)


def test_unknown_servers_runs_and_keys_are_refused(tmp_path):
    make_run(tmp_path)
    client = client_of(tmp_path)
    for where in ({}, {"home": 0, "job": "000001"}, {"home": 9, "job": "1"}, {"home": True, "job": "../x"}):
        assert client.post("/api/chat/answer", json={"messages": HELLO, **where}, headers=OWN).status_code == 400
    for run in ("", "0/none", "0/../x", "9/x"):
        assert client.post("/api/chat/serve", json={"run": run}, headers=OWN).status_code in (400, 404)
    bad = {"address": "http://localhost:1", "key": "a\r\nHost: b", "messages": HELLO}
    assert client.post("/api/chat/answer", json=bad, headers=OWN).status_code == 400
    assert servers_in([tmp_path]) == []


def test_a_server_is_found_however_much_it_said_since(tmp_path):
    job = served_job(tmp_path, make_run(tmp_path), "http://127.0.0.1:1234")
    log = tmp_path / ".jobs" / job / "log.txt"
    with log.open("a") as file:
        file.writelines('{"path": "/v1/chat/completions", "status": 200}\n' for _ in range(5000))
        file.write("serving other at http://evil.example/v1, stop with Ctrl-C\n")
    assert [each.address for each in servers_in([tmp_path])] == ["http://127.0.0.1:1234"]


def test_half_a_character_is_refused(tmp_path):
    make_run(tmp_path)
    half = '{"address": "http://localhost:1", "messages": [{"role": "user", "content": "\\ud800"}]}'
    headers = OWN | {"Content-Type": "application/json"}
    assert client_of(tmp_path).post("/api/chat/answer", content=half, headers=headers).status_code == 400


def test_read_only_starts_and_ends_no_server(tmp_path):
    make_run(tmp_path)
    client = client_of(tmp_path, is_read_only=True)
    assert client.post("/api/chat/serve", json={"run": "0/20260401-nano"}, headers=OWN).status_code == 400
    assert client.post("/api/chat/end", json={"home": 0, "job": "000001"}, headers=OWN).status_code == 400
    assert not (tmp_path / ".jobs").exists()


def test_a_checkpoint_or_a_folder_is_served_as_the_terminal_would(tmp_path):
    client = client_of(tmp_path)
    answer = client.post("/api/chat/serve", json={"model": "models/small"}, headers=OWN)
    assert answer.status_code == 200
    (job,) = list_jobs(tmp_path)
    assert job.words == ("mamba-slm", "serve", "models/small", "--port", "0", "--name=small")
    assert client.post("/api/chat/serve", json={"model": " "}, headers=OWN).json()["error"] == "choose a model"
    read_only = client_of(tmp_path, is_read_only=True)
    assert read_only.post("/api/chat/serve", json={"model": "m"}, headers=OWN).status_code == 400
