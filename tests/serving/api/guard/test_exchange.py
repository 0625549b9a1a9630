"""Promises about bodies, time and clients that leave, over real sockets."""

import json
import socket

import httpx
import pytest

from serving.api.guard.servers import Listening, Small, everything

HEAD = b"POST /v1/%s HTTP/1.1\r\nHost: localhost\r\n"


def error_of(raw):
    head, _, body = raw.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    return status, json.loads(body)["error"]


@pytest.fixture
def small():
    """Waits longer than any test takes: a client that the machine holds up is none that is slow."""
    return Small(max_body_bytes=1000, body_seconds=300, head_seconds=300, send_seconds=300, keep_alive_seconds=300)


@pytest.fixture
def listening(small):
    with Listening(small.app, small.settings) as listening:
        yield listening


def test_a_body_beyond_the_limit_is_refused_announced_or_not(listening):
    assert listening.http.post("/v1/echo", content=b"x" * 1000).json()["bytes"] == 1000
    announced = listening.http.post("/v1/echo", content=b"x" * 100_000)
    assert (announced.status_code, announced.json()["error"]["code"]) == (413, "body_too_large")
    pieces = listening.http.post("/v1/echo", content=iter([b"x" * 600] * 3))
    assert (pieces.status_code, pieces.json()["error"]["code"]) == (413, "body_too_large")
    huge = listening.told(HEAD % b"echo" + b"Connection: close\r\nContent-Length: " + b"9" * 40 + b"\r\n\r\n")
    assert error_of(huge)[0] in (400, 413)
    assert listening.http.post("/v1/echo", content=b"x").status_code == 200


def test_a_body_that_does_not_come_is_waited_for_so_long_and_no_longer():
    small = Small(body_seconds=0.3)
    with Listening(small.app, small.settings) as listening:
        status, error = error_of(listening.told(HEAD % b"echo" + b"Content-Length: 10\r\n\r\n12345"))
    assert (status, error["code"]) == (408, "body_timeout")


def test_a_body_that_ends_early_and_a_closed_side_are_told_what_is_wrong(listening, small):
    status, error = error_of(listening.told(HEAD % b"echo" + b"Content-Length: 10\r\n\r\n12345", half_close=True))
    assert status == 400 and "ended before its length" in error["message"]
    status, error = error_of(listening.told(HEAD % b"long" + b"Content-Length: 0\r\n\r\n", half_close=True))
    assert status == 400 and "keep it open" in error["message"]
    small.ended.wait()


@pytest.mark.parametrize("path", [b"long", b"stream"])
def test_what_a_client_that_leaves_asked_for_ends_at_once(listening, small, path):
    with listening.connect() as connection:
        connection.sendall(HEAD % path + b"Content-Length: 0\r\n\r\n")
        small.begun.wait()
    small.ended.wait()


def test_requests_sent_in_one_go_are_answered_in_order_and_end_with_their_client(listening, small):
    echo = HEAD % b"echo" + b"Content-Length: 1\r\n\r\nx"
    with listening.connect() as connection:
        connection.sendall(3 * echo + HEAD % b"echo" + b"Connection: close\r\nContent-Length: 1\r\n\r\nx")
        assert everything(connection).count(b'"bytes":1') == 4
    with listening.connect() as connection:
        connection.sendall(HEAD % b"long" + b"Content-Length: 0\r\n\r\n" + echo)
        small.begun.wait()
    small.ended.wait()


def test_a_client_that_takes_no_bytes_is_left():
    small = Small(send_seconds=0.3)
    with Listening(small.app, small.settings) as listening, listening.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(HEAD % b"much" + b"Content-Length: 0\r\n\r\n")
        small.ended.wait()


@pytest.mark.parametrize("path", ["long", "stream"])
def test_a_request_takes_so_long_and_no_longer(path):
    small = Small(request_seconds=0.3 if path == "long" else 2)  # in which a stream has begun, on a busy machine, too
    with Listening(small.app, small.settings) as listening:
        answer = listening.http.post(f"/v1/{path}")
        small.ended.wait()
        if path == "long":
            assert answer.status_code == 504 and answer.json()["error"]["code"] == "timeout"
            assert answer.headers["x-should-retry"] == "false"
        else:
            last = answer.text.strip().rsplit("\n", 1)[1]
            assert answer.status_code == 200 and json.loads(last[6:])["error"]["code"] == "timeout"


def test_beyond_so_many_requests_others_are_told_to_come_later():
    small = Small(max_requests=1)
    with Listening(small.app, small.settings) as listening, listening.connect() as connection:
        connection.sendall(HEAD % b"long" + b"Content-Length: 0\r\n\r\n")
        small.begun.wait()
        answer = listening.http.post("/v1/echo", content=b"x")
        assert answer.status_code == 503 and answer.headers["Retry-After"] == "1"
        assert listening.http.post("/v1/echo", content=iter([b"x"])).status_code == 503  # in pieces, of unknown length
        assert listening.http.get("/health").status_code == 200  # it has no body: load balancers go on
    small.ended.wait()


def test_bodies_together_are_bounded():
    small = Small(max_buffered_bytes=1500)
    with Listening(small.app, small.settings) as listening, listening.connect() as connection:
        connection.sendall(HEAD % b"long" + b"Content-Length: 1000\r\n\r\n" + bytes(1000))
        small.begun.wait()
        assert listening.http.post("/v1/echo", content=bytes(1000)).status_code == 503
        assert listening.http.post("/v1/echo", content=bytes(100)).status_code == 200
    small.ended.wait()


@pytest.mark.parametrize("path", ["long", "stream"])
def test_a_server_that_stops_tells_those_who_wait(path):
    small = Small()
    with Listening(small.app, small.settings) as listening, listening.connect() as asked:
        asked.sendall(HEAD % path.encode() + b"Content-Length: 0\r\n\r\n")
        small.begun.wait()
        listening.server.should_exit = True
        text = everything(asked).decode()
    assert "shutting down" in text
    assert (" 503 " in text) == (path == "long")


def test_the_clients_of_httpx_and_the_guard_agree_on_keep_alive(listening):
    with httpx.Client(base_url=listening.url, timeout=60) as client:
        for size in (0, 10, 2000, 10, 100_000, 10):
            assert client.post("/v1/echo", content=b"x" * size).status_code == (200 if size <= 1000 else 413)
