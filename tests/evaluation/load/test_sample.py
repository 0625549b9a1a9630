"""What becomes of a request, by kind."""

import asyncio
import socket
import time

import pytest

from evaluation.load.scripted import serving, stream, tokens, whole
from mamba_slm.evaluation.load.connection import Address, Connections
from mamba_slm.evaluation.load.sample import ask


def sample_of(said, *, timeout_seconds=60.0):
    async def main():
        async with serving(lambda path, body: said) as server:
            connections = Connections(Address.of(server.url))
            due = time.perf_counter()
            sample = await ask(connections, "/v1/completions", {}, due=due, timeout_seconds=timeout_seconds)
            connections.close()
            return sample

    return asyncio.run(main())


def test_a_stream_has_an_arrival_for_each_token_and_the_counts_of_the_server():
    sample = sample_of(stream(*tokens(5, prompt=11, cached=8)))
    assert sample.error is None
    assert len(sample.arrivals) == 5
    assert len(sample.gaps) == 4
    assert (sample.prompt_tokens, sample.new_tokens, sample.cached_tokens) == (11, 5, 8)
    assert sample.finish_reason == "length"
    assert sample.due <= sample.sent <= sample.arrivals[0] <= sample.arrivals[-1] <= sample.ended
    assert sample.seconds_per_token == (sample.ended - sample.arrivals[0]) / 4


def test_a_chat_begins_with_its_first_text_not_with_its_role():
    deltas = [{"role": "assistant", "content": ""}, {"content": "a"}, {"content": "b"}, {}]
    sample = sample_of(stream(*({"choices": [{"index": 0, "delta": delta}]} for delta in deltas)))
    assert len(sample.arrivals) == 2
    assert sample.new_tokens == 2  # a server that counts nothing: its events are counted


def test_an_answer_in_one_piece_arrives_at_its_end():
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    sample = sample_of(whole({"choices": [{"text": "ab", "finish_reason": "stop"}], "usage": usage}))
    assert (sample.error, len(sample.arrivals), sample.new_tokens) == (None, 1, 2)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (
            whole({"error": {"code": "rate_limit_exceeded", "message": "slow down"}}, status=429),
            "429 rate_limit_exceeded",
        ),
        (whole({"error": {"type": "server_error", "code": None}}, status=500), "500 server_error"),
        (whole(b"<html>bad gateway</html>", status=502), "502"),
        (stream(*tokens(2), done=False), "the stream ended without [DONE]"),
        (stream({"error": {"type": "server_error"}}), "in the stream: server_error"),
        (stream(), "an answer without a token"),
        (stream(*tokens(3))[:-20], "timeout"),
    ],
)
def test_errors_have_kinds(said, kind):
    assert sample_of(said, timeout_seconds=0.2 if kind == "timeout" else 60.0).error == kind


def test_no_server_is_an_error_of_the_sample():
    with socket.socket() as held:  # bound, so that nobody else listens there meanwhile, and not listening
        held.bind(("127.0.0.1", 0))
        connections = Connections(Address.of(f"http://127.0.0.1:{held.getsockname()[1]}"))
        sample = asyncio.run(ask(connections, "/v1/completions", {}, due=0.0, timeout_seconds=60.0))
    assert str(sample.error).startswith("no connection: ")


def test_a_connection_that_is_closed_before_an_answer_is_an_error_of_the_sample():
    assert sample_of(b"").error == "the connection was closed before an answer"
