"""What the clients of the soak ask for: every kind of request, at random but the same for the same seed, and checks of
what comes back."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from mamba_slm.evaluation.load.connection import Answer, Connections
from mamba_slm.evaluation.load.prompts import WORDS

PREFIXES, PREFIX_WORDS = 8, 150
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 3},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
    },
    "required": ["name", "tags", "age"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "paint", "parameters": SCHEMA}}
CANARY = {"prompt": "One day the children went to the river and", "max_tokens": 16, "temperature": 0}
BROKEN = (
    {"prompt": 5.5},
    {"prompt": "a", "temperature": "hot"},
    {"prompt": "a", "max_tokens": -1},
    {"prompt": "a", "max_tokens": 10**30},
    {"prompt": [10**9]},
    {"unknown": 1},
    {},
)


class UnexpectedError(Exception):
    """An answer that is not what the request should get."""


@dataclass
class Client:
    """One of the clients: its connection, its own random numbers, and what it saw."""

    number: int
    connections: Connections
    source: random.Random
    counts: dict[str, int] = field(default_factory=dict)
    canaries: dict[str, int] = field(default_factory=dict)
    """Answer to the same greedy request -> how often."""
    tokens: int = 0
    conversation: list[dict[str, str]] = field(default_factory=list)

    async def one(self) -> str:
        """One request of a random kind; its name.

        Raises:
            UnexpectedError: an answer that is wrong.
        """
        kind = self.source.choices(list(KINDS), weights=[weight for weight, _ in KINDS.values()])[0]
        await KINDS[kind][1](self)
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return kind

    def words(self, least: int, most: int) -> str:
        """New text."""
        return " ".join(self.source.choices(WORDS, k=self.source.randint(least, most)))

    def body(self, prompt: str, **more: Any) -> dict[str, Any]:
        """A completion with settings at random."""
        sampling = self.source.choice(
            [{"temperature": 0}, {"temperature": 0.8, "top_p": 0.9}, {"top_k": 20, "seed": 7}]
        )
        limits = {"max_tokens": self.source.randint(4, 48), "priority": self.source.choice([0, 0, 0, -1, 1])}
        return {"prompt": prompt, **limits, **sampling, "ignore_eos": True, **more}

    async def whole(self, path: str, body: Any, *, status: int = 200, method: str = "POST") -> Any:
        """An answer in one piece."""
        answer, writer = await self.connections.send(method, path, body)
        try:
            raw = await answer.body()
        except BaseException:
            writer.close()
            raise
        self.connections.give_back(answer, writer)
        if answer.status != status:
            raise UnexpectedError(f"{path}: status {answer.status} instead of {status}: {raw[:300]!r}")
        if "json" not in answer.headers.get("content-type", ""):
            return raw.decode()
        content = json.loads(raw)
        if usage := content.get("usage") if isinstance(content, dict) else None:
            self.tokens += usage.get("completion_tokens", 0)
        return content

    async def streamed(self, path: str, body: dict[str, Any], *, stop_after: int | None = None) -> list[dict[str, Any]]:
        """The events of a stream; `stop_after` so many the connection is closed instead."""
        answer, writer = await self.connections.send("POST", path, {**body, "stream": True})
        events, is_done = [], False
        try:
            if answer.status != 200:
                raise UnexpectedError(f"{path}: status {answer.status}: {(await answer.body())[:300]!r}")
            if stop_after == 0:
                return []
            async for content in events_of(answer):
                is_done = is_done or content is None
                events += [] if content is None else [content]
                if stop_after is not None and len(events) >= stop_after:
                    return events
            if not is_done:
                raise UnexpectedError(f"{path}: the stream ended without [DONE]")
            self.connections.give_back(answer, writer)
            answer = None
        finally:
            if answer is not None:
                writer.close()
        if any("error" in event for event in events):
            raise UnexpectedError(f"{path}: {events[-1]}")
        self.tokens += len(events)
        return events


async def events_of(answer: Answer) -> AsyncIterator[dict[str, Any] | None]:
    """Each event of a stream; None for the last."""
    async for line in answer.lines():
        if line.startswith(b"data:"):
            raw = line[5:].strip()
            yield None if raw == b"[DONE]" else json.loads(raw)


def expect(is_right: bool, what: str) -> None:
    """Raises: UnexpectedError: it is not."""
    if not is_right:
        raise UnexpectedError(what)


def prefix(number: int) -> str:
    """One of the beginnings that many prompts have."""
    return " ".join(random.Random(f"prefix {number}").choices(WORDS, k=PREFIX_WORDS))


async def new_prompt(client: Client) -> None:
    """Streamed, with usage."""
    body = client.body(client.words(10, 150), stream_options={"include_usage": True})
    events = await client.streamed("/v1/completions", body)
    usage = events[-1].get("usage") or {}
    expect(usage.get("completion_tokens") == body["max_tokens"], f"{usage} for {body['max_tokens']} tokens")


async def cached_prompt(client: Client) -> None:
    """A beginning that others have, in one piece."""
    body = client.body(f"{prefix(client.source.randrange(PREFIXES))} {client.words(3, 30)}")
    made = (await client.whole("/v1/completions", body))["usage"]["completion_tokens"]
    expect(made == body["max_tokens"], f"{made} instead of {body['max_tokens']} tokens")


async def aborted(client: Client) -> None:
    """The client leaves in the middle of a stream, or before its first event."""
    body = client.body(client.words(10, 150), max_tokens=200)
    await client.streamed("/v1/completions", body, stop_after=client.source.choice([0, 1, 2, 5, 10]))


async def several(client: Client) -> None:
    """Three answers to one prompt."""
    body = client.body(client.words(5, 60), n=3)
    expect(len((await client.whole("/v1/completions", body))["choices"]) == 3, "not three answers")


async def stopped(client: Client) -> None:
    """A string that ends the answer, which must not be in it."""
    content = await client.whole("/v1/completions", client.body(client.words(5, 60), stop=["e", " the"]))
    text = content["choices"][0]["text"]
    expect("e" not in text and " the" not in text, f"a stop string in {text!r}")


async def with_logprobs(client: Client) -> None:
    """Log-probabilities of every token."""
    body = client.body(client.words(5, 40), logprobs=3)
    found = (await client.whole("/v1/completions", body))["choices"][0]["logprobs"]
    expect(all(each <= 0 for each in found["token_logprobs"]), "a log-probability above 0")


async def conversation(client: Client) -> None:
    """A chat that goes on, from the beginning again after some turns."""
    if len(client.conversation) > 6:
        client.conversation.clear()
    client.conversation.append({"role": "user", "content": client.words(3, 20)})
    body = {"messages": client.conversation, "max_tokens": 24, "temperature": 0.7}
    message = (await client.whole("/v1/chat/completions", body))["choices"][0]["message"]
    client.conversation.append({"role": "assistant", "content": message["content"] or ""})


async def follows_schema(client: Client) -> None:
    """JSON that follows a schema, where it is finished."""
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
    body = {"messages": [{"role": "user", "content": client.words(3, 20)}], "response_format": wanted, "max_tokens": 80}
    choice = (await client.whole("/v1/chat/completions", body))["choices"][0]
    if choice["finish_reason"] == "stop":
        expect(set(json.loads(choice["message"]["content"])) == {"name", "tags", "age"}, "the schema is not followed")


async def calls_tool(client: Client) -> None:
    """A function that must be called."""
    body = {"messages": [{"role": "user", "content": client.words(3, 20)}], "tools": [TOOL], "tool_choice": "required"}
    choice = (await client.whole("/v1/chat/completions", body | {"max_tokens": 80}))["choices"][0]
    if choice["finish_reason"] == "tool_calls":
        json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"])


async def canary(client: Client) -> None:
    """The same greedy request again and again: its answer must not change, whatever runs beside it."""
    text = (await client.whole("/v1/completions", dict(CANARY)))["choices"][0]["text"]
    client.canaries[text] = client.canaries.get(text, 0) + 1


async def broken(client: Client) -> None:
    """A request that makes no sense: refused in OpenAI's form."""
    body = client.source.choice(BROKEN)
    answer, writer = await client.connections.send("POST", "/v1/completions", body)
    content = json.loads(await answer.body())
    client.connections.give_back(answer, writer)
    expect(400 <= answer.status < 500 and "message" in content["error"], f"{body}: {answer.status}, {content}")


async def looked_at(client: Client) -> None:
    """What monitors and clients ask besides."""
    expect("vllm:" in await client.whole("/metrics", None, method="GET"), "no metrics")
    expect((await client.whole("/health", None, method="GET"))["status"] == "ok", "not healthy")
    tokens = (await client.whole("/tokenize", {"prompt": client.words(5, 50)}))["tokens"]
    await client.whole("/detokenize", {"tokens": tokens})


KINDS: dict[str, tuple[int, Callable[[Client], Any]]] = {
    "new prompt, streamed": (20, new_prompt),
    "known beginning": (25, cached_prompt),
    "aborted": (12, aborted),
    "three answers": (5, several),
    "stop strings": (7, stopped),
    "log-probabilities": (5, with_logprobs),
    "conversation": (12, conversation),
    "JSON schema": (3, follows_schema),
    "function call": (2, calls_tool),
    "the same again": (4, canary),
    "makes no sense": (5, broken),
    "metrics, health, tokens": (3, looked_at),
}
"""Name -> how often, and what is done."""
