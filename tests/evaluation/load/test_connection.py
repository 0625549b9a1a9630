"""HTTP/1.1 by hand: whatever way an answer is cut, it is read the same; what breaks off is an error."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.load.scripted import serving, stream, whole
from mamba_slm.core.errors import ConfigError
from mamba_slm.evaluation.load.connection import Address, BrokenAnswerError, Connections


def ask(script, count=1, headers=None):
    async def main():
        async with serving(script) as server:
            connections = Connections(Address.of(server.url), headers or {})
            bodies = []
            for _ in range(count):
                answer, writer = await connections.send("POST", "/v1/x", {"a": 1})
                bodies.append([line async for line in answer.lines()])
                connections.give_back(answer, writer)
            connections.close()
            return server, bodies

    return asyncio.run(main())


@given(cut=st.integers(1, 80))
def test_lines_are_the_same_however_the_chunks_are_cut(cut):
    _, (lines,) = ask(lambda path, body: stream({"text": "é\n"}, {"n": 2}, cut=cut))
    assert lines == [b'data: {"text": "\\u00e9\\n"}', b"", b'data: {"n": 2}', b"", b"data: [DONE]", b""]


def test_a_connection_is_used_again():
    server, bodies = ask(lambda path, body: whole({"b": 2}), count=3)
    assert server.connections == 1
    assert bodies == [[b'{"b": 2}']] * 3
    assert server.asked == [("/v1/x", {"a": 1})] * 3


def test_a_connection_that_the_server_closed_meanwhile_is_replaced():
    answered = []

    def script(path, body):
        answered.append(path)
        return b"" if len(answered) == 2 else whole({"b": 2})

    server, bodies = ask(script, count=2)
    assert server.connections == 2
    assert bodies == [[b'{"b": 2}']] * 2


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfour",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nab",
    ],
)
def test_what_breaks_off_is_an_error(said):
    async def closing():
        async def once(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(said)
            writer.close()

        server = await asyncio.start_server(once, "127.0.0.1", 0)
        connections = Connections(Address.of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
        try:
            answer, writer = await connections.send("GET", "/v1/x")
            try:
                await answer.body()
            finally:
                writer.close()
        finally:
            server.close()

    with pytest.raises(BrokenAnswerError):
        asyncio.run(closing())


@pytest.mark.parametrize("url", ["ftp://host", "http://", "http://host:abc/v1"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ConfigError, match="no address of a server"):
        Address.of(url)


def test_a_path_of_its_own_and_tls():
    assert Address.of("https://host/openai/v1/") == Address(host="host", port=443, path="/openai/v1", is_tls=True)
