"""What a question to a server looks like, and its answer as it comes."""

from __future__ import annotations

import mamba_slm.dashboard.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import asyncio
import json
import urllib.parse
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx

from mamba_slm.core.errors import MambaSlmError, UsageError

NUMBERS = {"temperature": (0.0, 5.0), "top_p": (0.0, 1.0), "max_tokens": (1, 100_000), "seed": (0, 2**31 - 1)}
ROLES = ("system", "user", "assistant")
MOST_MESSAGES, MOST_CHARACTERS = 500, 1_000_000
TIMEOUT = httpx.Timeout(10, read=600)
MOST_ERROR_BYTES = 20_000
MOST_NAMES_BYTES = 2**20
MOST_SECONDS = 15.0
"""Of a short answer, from the first byte to the last."""
PLAIN = {"Accept-Encoding": "identity"}
"""Nothing is unpacked here: a few packed bytes could come out as gigabytes."""


def question_of(body: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Path below the server's address, and the request: turns, or a text to continue.

    Raises:
        UsageError: it is not a conversation with settings.
    """
    request: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    for name, (least, most) in NUMBERS.items():
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
            raise UsageError(f"{name} must be a number from {least:g} to {most:g}")
        request[name] = value if name in ("temperature", "top_p") else int(value)
    messages = body.get("messages")
    if not isinstance(messages, list) or not 1 <= len(messages) <= MOST_MESSAGES:
        raise UsageError(f"messages must be a list of 1 to {MOST_MESSAGES}")
    kept = [kept_message(each) for each in messages]
    if sum(len(each["content"]) for each in kept) > MOST_CHARACTERS:
        raise UsageError(f"a conversation may have {MOST_CHARACTERS:,} characters")
    if body.get("continues") is True:  # a model that knows no turns
        return "completions", request | {"prompt": "".join(each["content"] for each in kept)}
    return "chat/completions", request | {"messages": kept}


def kept_message(message: object) -> dict[str, str]:
    """One message, with nothing but role and content.

    Raises:
        UsageError: it has other roles or content.
    """
    if isinstance(message, dict):
        role, content = message.get("role"), message.get("content")
        if role in ROLES and isinstance(content, str):
            return {"role": str(role), "content": content}
    raise UsageError(f"a message is {{role: {'|'.join(ROLES)}, content: text}}")


def address_of(text: object) -> str:
    """The address of a server that somebody typed, without `/v1`.

    Raises:
        UsageError: it is none.
    """
    try:
        found = urllib.parse.urlsplit(text.strip()) if isinstance(text, str) and len(text) < 2000 else None
        if found is None or found.scheme not in ("http", "https") or not found.hostname:
            raise UsageError("the address of a server begins with http:// or https://")
        if found.username is not None or found.password is not None:  # it would stand in messages and be kept
            raise UsageError("leave name and password out of the address", hint="the key of a server has its own field")
        address = urllib.parse.urlunsplit(found._replace(query="", fragment="")).rstrip("/").removesuffix("/v1")
        _ = found.port, httpx.URL(address)  # what cannot be asked is refused here
    except (ValueError, httpx.InvalidURL) as error:
        raise UsageError(f"this is not the address of a server: {error}") from error
    return address


async def stream(address: str, path: str, request: Mapping[str, Any], *, key: str = "") -> AsyncIterator[bytes]:
    """The events of an answer, as the server sends them; an error becomes one event `{"error": …}`.

    Closing the iterator closes the connection, which ends the work on the server.
    """
    try:
        async with (
            httpx.AsyncClient(timeout=TIMEOUT, trust_env=False, follow_redirects=False) as client,
            client.stream("POST", f"{address}/v1/{path}", json=dict(request), headers=headers_with(key)) as answer,
        ):
            if answer.status_code != 200:
                body = await read_some(answer, most_bytes=MOST_ERROR_BYTES)
                yield event({"error": reason_in(body, answer.status_code)})
                return
            async for piece in pieces_of(answer):
                yield piece
    except (httpx.HTTPError, TimeoutError) as error:
        yield event({"error": f"the server at {address} does not answer: {str(error) or type(error).__name__}"})
    except MambaSlmError as error:
        yield event({"error": error.message})


def headers_with(key: str) -> dict[str, str]:
    """Of a question to a server; the key goes to the address that it was typed for, and nowhere else."""
    return PLAIN | ({"Authorization": f"Bearer {key}"} if key else {})


async def pieces_of(answer: httpx.Response) -> AsyncIterator[bytes]:
    """A body as it comes over the line.

    Raises:
        MambaSlmError: the server packs it, though it was asked not to.
    """
    packed = answer.headers.get("content-encoding", "identity")
    if packed.strip().lower() not in ("", "identity"):
        raise MambaSlmError(f"the server packs its answer ({packed[:40]}), and was asked not to")
    async for piece in answer.aiter_raw():
        yield piece


async def read_some(answer: httpx.Response, *, most_bytes: int) -> bytes:
    """A body, or its first `most_bytes`.

    Raises:
        TimeoutError: it takes longer than `MOST_SECONDS`.
        MambaSlmError: see `pieces_of`.
    """
    body = bytearray()
    async with asyncio.timeout(MOST_SECONDS):
        async for piece in pieces_of(answer):
            body += piece
            if len(body) >= most_bytes:
                break
    return bytes(body[:most_bytes])


def reason_in(body: bytes, status: int) -> str:
    """What the server says about an error, in OpenAI's form or any."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"status {status}: {body[:500].decode('utf-8', errors='replace')}"


def event(content: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return f"data: {json.dumps(content)}\n\n".encode()


async def names_of(address: str, *, key: str = "") -> list[str]:
    """The models of a server.

    Raises:
        MambaSlmError: it does not answer as such servers do.
    """
    try:
        async with (
            httpx.AsyncClient(timeout=10, trust_env=False, follow_redirects=False) as client,
            client.stream("GET", f"{address}/v1/models", headers=headers_with(key)) as answer,
        ):
            answer.raise_for_status()
            body = await read_some(answer, most_bytes=MOST_NAMES_BYTES)
        return [str(each["id"]) for each in json.loads(body)["data"]]
    except (httpx.HTTPError, TimeoutError, ValueError, KeyError, TypeError, RecursionError) as error:
        why = str(error) or type(error).__name__
        raise MambaSlmError(f"the server at {address} does not answer as OpenAI's API does: {why}") from error
