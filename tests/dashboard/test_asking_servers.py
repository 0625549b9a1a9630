"""What a server answers is bounded in size and time, and it leads the dashboard nowhere else."""

import asyncio
import gzip
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dashboard.made_runs import client_of
from mamba_slm.core.errors import MambaSlmError, UsageError
from mamba_slm.dashboard import talking
from mamba_slm.dashboard.reading.server_metrics import MOST_BUCKETS, moment_of
from mamba_slm.dashboard.talking import address_of, names_of, stream
from mamba_slm.dashboard.watching import MOST_BYTES, metrics_text

OWN = {"Origin": "http://localhost:8888"}


@contextmanager
def saying(body=b"", *, status=200, headers=(), end=True):
    """A server that gives one answer to everything; with `end=False` it never finishes the last byte."""
    asked, over = [], threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, dict(self.headers)))
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body) + (not end)))
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:  # who asked has heard enough
                return
            if not end:
                over.wait(300)

        do_POST = do_GET

        def log_message(self, *_arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{found.server_address[1]}", asked
        finally:
            over.set()
            found.shutdown()


async def whole(events):
    return b"".join([each async for each in events])


def asked_in_all_ways(address):
    """What comes of each way to ask a server: the errors in words."""
    found = []
    for question in (metrics_text(address, key="sk-1"), names_of(address, key="sk-1")):
        with pytest.raises(MambaSlmError) as error:
            asyncio.run(question)
        found.append(error.value.message)
    said = asyncio.run(whole(stream(address, "completions", {"prompt": "a"}, key="sk-1"))).decode()
    return [*found, json.loads(said.removeprefix("data: "))["error"]]


def test_a_redirection_is_not_followed_and_no_key_goes_elsewhere():
    with saying(b"data: secret") as (inner, seen):
        location = ("Location", f"{inner}/metrics")
        with saying(status=302, headers=[location]) as (address, asked):
            said = asked_in_all_ways(address)
    assert len(asked) == 3 and not seen
    assert not any("secret" in each or "sk-1" in each for each in said)


def test_a_packed_answer_is_refused_before_it_is_unpacked():
    packed = gzip.compress(b"vllm:num_requests_running 1\n" * 400_000)
    with saying(packed, headers=[("Content-Encoding", "gzip")]) as (address, asked):
        said = asked_in_all_ways(address)
    assert all("packs" in each for each in said)
    assert {headers["Accept-Encoding"] for _, headers in asked} == {"identity"}


def test_an_answer_without_end_is_left(monkeypatch):
    monkeypatch.setattr(talking, "MOST_SECONDS", 0.2)
    with saying(b"a 1\n", end=False) as (address, _):
        for question in (metrics_text(address), names_of(address)):
            with pytest.raises(MambaSlmError, match="does not answer"):
                asyncio.run(question)


def test_a_long_answer_is_cut_and_nested_brackets_are_an_error():
    with saying(b"[" * 2 * MOST_BYTES) as (address, _):
        with pytest.raises(MambaSlmError, match="longer than 1 MiB"):
            asyncio.run(metrics_text(address))
        with pytest.raises(MambaSlmError, match="OpenAI"):
            asyncio.run(names_of(address))
    with saying(b"[" * 19_000, status=500) as (address, _):
        assert b"status 500" in asyncio.run(whole(stream(address, "completions", {})))


def test_a_long_word_in_metrics_is_looked_at_once_and_kept_small():
    lines = ["vllm:num_requests_running{" + "a" * 500_000 + "} 1", "vllm:num_requests_running{" + "a" * 4000 + "} 2"]
    lines += [f'vllm:e2e_request_latency_seconds_bucket{{le="{bound}"}} 1' for bound in range(5000)]
    moment = moment_of("\n".join(lines), at=1.0)  # tried from every letter, the first would take a day
    assert moment.gauges["running"] == 2
    assert len(moment.times["request"].bounds) == MOST_BUCKETS


@pytest.mark.parametrize("address", ["http://ada:pw@host:8000", "http://ada@host", "http://:pw@host/v1"])
def test_a_password_is_no_part_of_an_address_and_is_not_repeated(address):
    with pytest.raises(UsageError) as error:
        address_of(address)
    assert "pw" not in str(error.value) and "ada" not in str(error.value)


def test_who_may_only_look_sends_nobody_to_an_address(tmp_path):
    client = client_of(tmp_path, is_read_only=True)
    with saying(b"{}") as (address, asked):
        typed = {"address": address, "messages": [{"role": "user", "content": "a"}]}
        for path in ("chat/look", "chat/answer", "serve/elsewhere"):
            answer = client.post(f"/api/{path}", json=typed, headers=OWN)
            assert answer.status_code == 400 and "--read-only" in answer.json()["hint"], path
    assert not asked
