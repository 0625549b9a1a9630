"""Requests that nobody should send: made from a seed, so that every run sends the same ones."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

VALID: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "def f(", "max_tokens": 2, "n": 1, "stop": ["x"], "logit_bias": {"5": 1}, "seed": 1},
    "/v1/chat/completions": {
        "messages": [{"role": "user", "content": "Hello"}],
        "max_completion_tokens": 2,
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
        "temperature": 1.0,
        "top_p": 0.5,
    },
    "/v1/responses": {
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hello"}]}],
        "max_output_tokens": 2,
        "tools": [{"type": "function", "name": "a", "parameters": {"type": "object"}, "strict": True}],
        "text": {"format": {"type": "text"}},
        "metadata": {"a": "b"},
    },
    "/v1/embeddings": {"input": "Hello", "encoding_format": "float"},
    "/tokenize": {"prompt": "Hello"},
    "/detokenize": {"tokens": [5, 6]},
    "/generate": {"inputs": "Hello", "parameters": {"max_new_tokens": 2, "top_k": 5, "stop": ["x"]}},
    "/generate_stream": {"inputs": "Hello", "parameters": {"max_new_tokens": 2}},
    "/v1/load_lora_adapter": {"lora_name": "none"},
    "/v1/unload_lora_adapter": {"lora_name": "none"},
}
ODD_STRINGS = (
    "",
    "\x00",
    "\ud800",
    "\uffff",
    "a" * 20_000,
    "<|im_end|>" * 50,
    "../../etc/passwd",
    "\u202e",
    "\U0010ffff",
)
ODD_SCHEMAS: tuple[Any, ...] = (
    {"type": "string", "pattern": "^(([a-z0-9]{1,100}){1,100}){1,100}$"},
    {"enum": [f"value {i}" for i in range(3000)]},
    {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
    {"allOf": [{"type": "string", "pattern": f"^.*{letter}.*$"} for letter in "abcdefghijklmnop"]},
    {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(1000)}, "additionalProperties": False},
    {"type": "no such type"},
    {"$ref": "http://example.com/schema.json"},
    {"type": "array", "items": {"type": "integer"}, "minItems": 10**9},
    {"type": "number", "multipleOf": 1e-300},
)


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One request, and how its bytes are sent."""

    kind: str
    pieces: tuple[bytes, ...]
    way: str = "plain"
    """`plain`, `half_close` behind the last piece, `slowly` (a byte at a time), `unread` (the answer is not read),
    `reset` (the connection is), `idle` (nothing is sent)."""


def odd_value(rng: random.Random, depth: int = 0) -> Any:
    """Anything JSON can say, and some that it cannot."""
    choices: list[Callable[[], Any]] = [
        lambda: None,
        lambda: rng.choice((True, False)),
        lambda: rng.choice((0, -1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**30, 10**308)),
        lambda: rng.choice((0.0, -0.0, 1e308, -1e308, 1e-320, float("nan"), float("inf"), float("-inf"), 0.1)),
        lambda: rng.choice(ODD_STRINGS),
        lambda: "".join(chr(rng.randrange(1, 0x3000)) for _ in range(rng.randrange(60))),
        lambda: rng.choice(ODD_SCHEMAS),
    ]
    if depth < 3:
        choices += [
            lambda: [odd_value(rng, depth + 1) for _ in range(rng.randrange(5))],
            lambda: {rng.choice(ODD_STRINGS)[:20]: odd_value(rng, depth + 1) for _ in range(rng.randrange(4))},
            lambda: [odd_value(rng, 3)] * rng.choice((10, 3000)),
        ]
    return rng.choice(choices)()


def mutated(rng: random.Random, value: Any) -> Any:
    """The value with something odd somewhere in it."""
    if isinstance(value, dict) and value and rng.random() < 0.75:
        name = rng.choice(list(value))
        what = rng.random()
        if what < 0.1:
            return {key: item for key, item in value.items() if key != name}
        if what < 0.2:
            return {**value, rng.choice(("stream", "tools", "logprobs", "echo", "odd", "user", "n")): odd_value(rng)}
        return {**value, name: mutated(rng, value[name])}
    if isinstance(value, list) and value and rng.random() < 0.5:
        place = rng.randrange(len(value))
        return [*value[:place], mutated(rng, value[place]), *value[place + 1 :]]
    return odd_value(rng)


def head(path: str, length: int | str, *more: str, method: str = "POST", host: str = "localhost") -> bytes:
    """The head of a request, its connection closed behind the answer."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", "Content-Type: application/json"]
    return "\r\n".join([*lines, f"Content-Length: {length}", *more, "", ""]).encode("latin-1", "replace")


def whole(path: str, body: bytes, *more: str) -> bytes:
    """A request of one piece."""
    return head(path, len(body), *more) + body


def of_json(rng: random.Random) -> Attack:
    """Wrong types, huge numbers, unknown and missing fields."""
    path = rng.choice(list(VALID))
    body = json.dumps(mutated(rng, VALID[path])).encode("utf-8", "surrogatepass")
    return Attack(kind="fuzzed JSON", pieces=(whole(path, body),))


def of_bytes(rng: random.Random) -> Attack:
    """Bodies that are no JSON, or no UTF-8, or too deep, or too many digits."""
    path = rng.choice(list(VALID))
    body = bytearray(json.dumps(VALID[path]).encode())
    made: list[Callable[[], bytes]] = [
        lambda: bytes(body[: rng.randrange(len(body))]),
        lambda: bytes(byte ^ (rng.random() < 0.05) << rng.randrange(8) for byte in body),
        lambda: bytes(body).replace(b"Hello", b"\xff\xfe\x80"),
        lambda: rng.randbytes(rng.randrange(400)),
        lambda: b"[" * 100_000 + b"]" * 100_000,
        lambda: b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        lambda: b'{"prompt": "a", "seed": ' + b"9" * rng.choice((30, 5000)) + b"}",
        lambda: b'{"prompt": [' + b"1.5," * 20_000 + b"1]}",
        lambda: b'{"prompt": [' + b'"a",1,' * 5_000 + b"1]}",
        lambda: b"\xef\xbb\xbf" + bytes(body),
        lambda: bytes(body).decode().encode("utf-16"),
        lambda: bytes(body) * 2,
    ]
    return Attack(kind="broken bodies", pieces=(whole(path, rng.choice(made)()),))


def of_truncated(rng: random.Random) -> Attack:
    """A body that ends before its length."""
    body = json.dumps(VALID["/v1/completions"]).encode()
    cut = rng.randrange(len(body))
    return Attack(kind="truncated bodies", pieces=(head("/v1/completions", len(body)), body[:cut]), way="half_close")


def of_http(rng: random.Random) -> Attack:
    """What is no HTTP, or HTTP that contradicts itself."""
    body = b'{"prompt": "a", "max_tokens": 1}'
    path = "/v1/completions"
    chunk = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    made: list[Callable[[], bytes]] = [
        lambda: rng.randbytes(rng.randrange(1, 300)) + b"\r\n\r\n",
        lambda: b"\x16\x03\x01" + rng.randbytes(200),
        lambda: b"GET / HTTP/" + rng.choice((b"0.9", b"1.7", b"2.0", b"x")) + b"\r\nHost: localhost\r\n\r\n",
        lambda: head(path, rng.choice(("-1", "1e3", "0x10", "9" * 30, "", "1, 2"))) + body,
        lambda: head(path, len(body), f"Content-Length: {len(body) + 1}") + body,
        lambda: chunk + f"Content-Length: {len(body)}\r\n\r\n".encode() + body,
        lambda: chunk + b"\r\nzz\r\n" + body,
        lambda: chunk + b"\r\nffffffffffffffff1\r\n" + body,
        lambda: head(path, len(body), "X: " + "a" * rng.choice((1000, 80_000))) + body,
        lambda: head(path, len(body), *["X: y"] * rng.choice((200, 20_000))) + body,
        lambda: head(path, len(body), host=rng.choice(("evil.example", "", "a b", "[::1", "127.0.0.1.evil.example"))),
        lambda: head(path, len(body), "Host: other") + body,
        lambda: head(path, len(body), "Upgrade: h2c", "Connection: Upgrade") + body,
        lambda: head(path, len(body), "Content-Encoding: gzip") + body,
        lambda: head(path, len(body), "Content-Type: " + rng.choice(("text/plain", "", "application/x", "é"))) + body,
        lambda: head(path, len(body), "Authorization: Bearer " + "é" * 100, "X-Request-Id: a\tb" + "c" * 500) + body,
        lambda: head("/" + "".join(chr(rng.randrange(33, 255)) for _ in range(20)), 0),
        lambda: head(rng.choice(("/v1/models/../../x", "/%00", "/%ff%fe", "//", "/v1/completions?" + "a" * 9000)), 0),
        lambda: head(path, 0, method=rng.choice(("GET", "PUT", "DELETE", "TRACE", "OPTIONS", "BREW", "\x01"))),
        lambda: head(path, len(body), "Expect: 100-continue") + body,
    ]
    return Attack(kind="broken HTTP", pieces=(rng.choice(made)(),), way="half_close" if rng.random() < 0.5 else "plain")


def of_slow_writer(rng: random.Random) -> Attack:
    """A head or a body that comes a byte at a time."""
    sent = whole("/v1/completions", json.dumps(VALID["/v1/completions"]).encode())
    cut = rng.randrange(1, len(sent))
    return Attack(kind="slow writers", pieces=(sent[:cut], sent[cut:]), way="slowly")


def of_slow_reader(rng: random.Random) -> Attack:
    """A long answer that nobody reads."""
    body = {"prompt": "a", "max_tokens": rng.choice((5, 200)), "stream": True, "ignore_eos": True, "n": 4}
    return Attack(kind="slow readers", pieces=(whole("/v1/completions", json.dumps(body).encode()),), way="unread")


def of_half_closed(rng: random.Random) -> Attack:
    """A good request, and the client's side closed behind it."""
    path = rng.choice(("/v1/completions", "/tokenize"))
    body = {**VALID[path], **({"max_tokens": 100, "stream": rng.random() < 0.5} if path == "/v1/completions" else {})}
    return Attack(kind="half-closed sockets", pieces=(whole(path, json.dumps(body).encode()),), way="half_close")


def of_reset(rng: random.Random) -> Attack:
    """A good request, and the connection reset behind it."""
    body = {"prompt": "a", "max_tokens": 200, "stream": rng.random() < 0.5, "ignore_eos": True}
    sent = whole("/v1/completions", json.dumps(body).encode())
    return Attack(kind="reset connections", pieces=(sent[: rng.randrange(1, len(sent) + 1)],), way="reset")


def of_idle(rng: random.Random) -> Attack:
    """A connection on which nothing is said."""
    return Attack(kind="idle connections", pieces=(), way="idle")


SHARES: tuple[tuple[Callable[[random.Random], Attack], float], ...] = (
    (of_json, 0.30),
    (of_bytes, 0.10),
    (of_truncated, 0.05),
    (of_http, 0.15),
    (of_slow_writer, 0.05),
    (of_slow_reader, 0.05),
    (of_half_closed, 0.05),
    (of_reset, 0.05),
    (of_idle, 0.20),
)


def attacks(count: int, *, seed: int) -> list[Attack]:
    """So many, of all kinds, in random order."""
    rng = random.Random(seed)
    makers = [maker for maker, share in SHARES for _ in range(max(1, round(share * count)))]
    made = [maker(rng) for maker in makers[:count]]
    rng.shuffle(made)
    return made
