"""Promises about what comes before a request is whole, and about sockets that do nothing."""

import json

import pytest

from mamba_slm.serving.api.guard import connections
from serving.api.guard.servers import Listening, Small, everything

GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def listening():
    """Waits longer than any test takes: a client that the machine holds up is none that is slow."""
    small = Small(head_seconds=300, keep_alive_seconds=300, max_connections=8)
    with Listening(small.app, small.settings) as listening:
        yield listening


def error_of(raw):
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"application/json" in head
    return int(head.split()[1]), json.loads(body)["error"]


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nBad\x00Header: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n b: c\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_no_http_gets_a_well_formed_error(listening, raw):
    status, error = error_of(listening.told(raw))
    assert status in (400, 403, 505) and error["message"]


@pytest.mark.parametrize("times", [1, 100])
@pytest.mark.parametrize(
    "first, last",
    [
        (b"GET /" + b"x" * 70_000, b" HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 12_000, b"Host: localhost\r\n\r\n"),
    ],
)
def test_a_head_beyond_the_limit_is_refused_whole_or_not(listening, monkeypatch, first, last, times):
    monkeypatch.setattr(connections, "LINGER_SECONDS", 300.0)  # in which even a busy machine has sent the rest
    with listening.connect() as connection:
        connection.sendall((first + last) * times)
        assert error_of(everything(connection))[0] == 431


@pytest.mark.parametrize("raw", [b"G", b"GET / HTTP/1.1\r\nHost: localhost\r\n"])
def test_a_head_that_does_not_come_is_waited_for_so_long_and_no_longer(raw):
    small = Small(head_seconds=0.3, keep_alive_seconds=300)
    with Listening(small.app, small.settings) as listening:
        status, error = error_of(listening.told(raw))
    assert (status, error["code"]) == (408, "head_timeout")


def test_a_head_that_ends_early_is_told(listening):
    status, error = error_of(listening.told(b"GET / HTTP/1.1\r\nHost", half_close=True))
    assert status == 400 and "middle of its head" in error["message"]


def test_a_connection_on_which_nothing_comes_is_closed():
    small = Small(keep_alive_seconds=1)
    with Listening(small.app, small.settings) as listening:
        assert listening.told() == b""


def test_an_upgrade_that_is_not_known_is_an_ordinary_request(listening):
    wish = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n"
    with listening.connect() as connection:
        connection.sendall(b"POST /v1/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n" + wish + b"\r\nabc")
        read = b""
        while b"}" not in read:
            piece = connection.recv(65536)
            assert piece, read
            read += piece
    assert b" 200 " in read or json.loads(read.partition(b"\r\n\r\n")[2])["error"]["message"]


def test_a_new_connection_takes_the_place_of_the_one_idle_longest(listening):
    idle = [listening.connect() for _ in range(8)]
    try:
        assert b" 200 " in listening.told(GET)
        assert idle[0].recv(1) == b""
        idle[-1].sendall(GET)
        assert b" 200 " in everything(idle[-1])
    finally:
        for connection in idle:
            connection.close()


def test_where_no_connection_is_idle_a_new_one_is_refused_in_words():
    small = Small(max_connections=2)
    with Listening(small.app, small.settings) as listening:
        busy = [listening.connect() for _ in range(2)]
        for connection in busy:
            small.begun.clear()
            connection.sendall(b"POST /v1/long HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
            small.begun.wait()
        raw = listening.told()
        assert error_of(raw)[0] == 503 and b"Retry-After: 1" in raw
        for connection in busy:
            connection.close()
