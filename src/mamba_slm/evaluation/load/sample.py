"""One request and what became of it."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

from mamba_slm.evaluation.load.connection import Answer, BrokenAnswerError, Connections

DATA = b"data:"


@dataclass(slots=True)
class Sample:
    """Times are seconds of `time.perf_counter`."""

    due: float
    """When it should have been sent."""
    sent: float = 0.0
    arrivals: list[float] = field(default_factory=list)
    """Of its events with text, the first token first; of an answer in one piece, its end."""
    ended: float = 0.0
    prompt_tokens: int = 0
    new_tokens: int = 0
    cached_tokens: int = 0
    error: str | None = None
    """Its kind, such as `429 rate_limit_exceeded`; None: it was answered to its end."""
    finish_reason: str | None = None

    @property
    def first_seconds(self) -> float:
        """From sending to the first token."""
        return self.arrivals[0] - self.sent

    @property
    def whole_seconds(self) -> float:
        """From sending to the end."""
        return self.ended - self.sent

    @property
    def gaps(self) -> list[float]:
        """Between one event and the next."""
        return [after - before for before, after in zip(self.arrivals, self.arrivals[1:], strict=False)]

    @property
    def seconds_per_token(self) -> float | None:
        """Behind the first token; None where there was only one."""
        if self.new_tokens < 2:
            return None
        return (self.ended - self.arrivals[0]) / (self.new_tokens - 1)


async def ask(
    connections: Connections, path: str, body: dict[str, Any], *, due: float, timeout_seconds: float
) -> Sample:
    """Send a request and read its answer to the end; a failure is a `Sample` with an error."""
    sample = Sample(due=due, sent=time.perf_counter())
    try:
        async with asyncio.timeout(timeout_seconds):
            await _answered(connections, path, body, sample)
    except TimeoutError:
        sample.error = "timeout"
    except BrokenAnswerError as error:
        sample.error = str(error)
    except OSError as error:
        sample.error = f"no connection: {error.strerror or type(error).__name__}"
    sample.ended = time.perf_counter()
    if sample.error is None and not sample.arrivals:
        sample.error = "an answer without a token"
    return sample


async def _answered(connections: Connections, path: str, body: dict[str, Any], sample: Sample) -> None:
    answer, writer = await connections.send("POST", path, body)
    try:
        if answer.status != 200:
            sample.error = error_kind(answer.status, await answer.body())
        elif "text/event-stream" in answer.headers.get("content-type", ""):
            await read_events(answer, sample)
        else:
            content = json.loads(await answer.body())
            sample.arrivals.append(time.perf_counter())
            sample.finish_reason = content["choices"][0].get("finish_reason")
            take_usage(sample, content.get("usage"))
    except BaseException:
        writer.close()  # which tells the server that nobody waits any more
        raise
    connections.give_back(answer, writer)


async def read_events(answer: Answer, sample: Sample) -> None:
    """Server-sent events up to `[DONE]` and the end of the body."""
    is_done, events = False, 0
    async for line in answer.lines():
        if not line.startswith(DATA):
            if line.startswith(b"error:"):  # as llama.cpp's server once said it
                sample.error = "error in the stream"
            continue
        now, raw = time.perf_counter(), line[len(DATA) :].strip()
        if raw == b"[DONE]":
            is_done = True
            continue
        content = json.loads(raw)
        if "error" in content:
            sample.error = f"in the stream: {kind_in(content['error'])}"
        for choice in content.get("choices") or ():
            if is_progress(choice):
                sample.arrivals.append(now)
                events += 1
            sample.finish_reason = choice.get("finish_reason") or sample.finish_reason
        take_usage(sample, content.get("usage"))
    if not is_done and sample.error is None:
        sample.error = "the stream ended without [DONE]"
    sample.new_tokens = sample.new_tokens or events


def is_progress(choice: dict[str, Any]) -> bool:
    """Whether an event brings a token. In a completion each does, be it half a character; a chat begins with a role.

    >>> is_progress({"text": "", "finish_reason": None}), is_progress({"delta": {"role": "assistant", "content": ""}})
    (True, False)
    """
    if "text" in choice:
        return bool(choice["text"]) or choice.get("finish_reason") is None
    delta = choice.get("delta") or {}
    return any(delta.get(key) for key in ("content", "reasoning_content", "tool_calls"))


def take_usage(sample: Sample, usage: dict[str, Any] | None) -> None:
    """The server's own counts."""
    if usage:
        sample.prompt_tokens = usage.get("prompt_tokens") or 0
        sample.new_tokens = usage.get("completion_tokens") or 0
        sample.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0


def error_kind(status: int, body: bytes) -> str:
    """Status and the server's word for what is wrong.

    >>> error_kind(429, b'{"error": {"code": "rate_limit_exceeded", "message": "..."}}'), error_kind(502, b"<html>")
    ('429 rate_limit_exceeded', '502')
    """
    try:
        return f"{status} {kind_in(json.loads(body)['error'])}"
    except (ValueError, KeyError, TypeError):
        return str(status)


def kind_in(error: Any) -> str:
    """The shortest name that an error has."""
    if isinstance(error, dict):
        return str(error.get("code") or error.get("type") or error.get("message") or "error")[:80]
    return str(error)[:80]
