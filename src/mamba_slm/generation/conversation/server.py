"""The same chat with a model behind a server that speaks OpenAI's chat API: ours, vLLM, llama.cpp, Ollama.

Only `/v1/models` and `/v1/chat/completions` with streaming are used, through Python's own HTTP client. The whole
conversation is sent with every message, as that API wants it.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Generator, Iterable, Sequence
from typing import Any

from mamba_slm.core.errors import ConfigError, DataError, SetupError
from mamba_slm.generation.conversation.reply_settings import ReplySettings
from mamba_slm.generation.conversation.talk import Turn
from mamba_slm.generation.generate import Timing

ENDINGS = {"length": "stopped at --max-new-tokens or at the end of the model's context"}
OPTIONAL = (
    "top_p", "frequency_penalty", "presence_penalty", "top_k", "min_p", "typical_p", "repetition_penalty",
    "no_repeat_ngram_size",
)  # fmt: skip
"""Settings that are sent only when they are set. OpenAI's API has the first three; the others are called so by vLLM's,
llama.cpp's or other servers, which ignore or refuse what they do not know."""


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """Refuses to follow: the key and the conversation are for the server that was named."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


class ServerChat:
    """One `Conversation` with a model behind a server.

    Args:
        url: up to and with `/v1`.
        model: its name there; None takes the first that the server lists.
        api_key: sent as a bearer token; never shown.
        timeout_seconds: longest wait for the next piece of a reply.

    Raises:
        ConfigError: not an address, or the server does not know the model.
        SetupError: the server does not answer, or refuses.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        settings: ReplySettings | None = None,
        system: str | None = None,
        api_key: str | None = None,
        timeout_seconds: float = 300.0,
    ):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigError(f"{url!r} is no address of a server", hint="--url http://127.0.0.1:8000/v1")
        self.url, self.system, self.timeout_seconds = url.rstrip("/"), system, timeout_seconds
        self.settings = settings or ReplySettings()
        self.turns: list[Turn] = []
        self.timing = Timing()
        self.used_tokens = 0
        """As the server counted them with its last reply; 0 where it does not."""
        self.tokenizer_fingerprint = None
        self._api_key = api_key
        listed = self._get("/models").get("data") or [{}]
        known = [str(one.get("id")) for one in listed if "id" in one]
        if model is not None and known and model not in known:
            raise ConfigError(f"{self.url} has no model {model!r}", hint=f"it has {', '.join(known)}")
        if model is None and not known:
            raise ConfigError(
                f"{self.url} does not list its models", hint="name the one to talk to: chat NAME --url URL"
            )
        self.name = model or known[0]
        entry = next((one for one in listed if one.get("id") == self.name), {})
        length = entry.get("max_model_len") or (entry.get("meta") or {}).get("n_ctx_train")
        self.context_tokens: int | None = length if isinstance(length, int) else None

    @property
    def ended(self) -> str | None:
        """What the user should know about how the last reply ended."""
        return ENDINGS.get(self.turns[-1].finish_reason or "") if self.turns else None

    def tokens_of(self, text: str) -> list[tuple[int, bytes]]:
        """Nothing: the tokenizer is at the server."""
        raise ConfigError("the tokens are known to the server only", hint="/stats shows how many were used")

    def reset(self) -> None:
        """Forget the conversation; the system message stays."""
        self.turns, self.used_tokens = [], 0

    def undo(self) -> Turn:
        """Take back the last message and its reply.

        Raises:
            ConfigError: there is none.
        """
        if not self.turns:
            raise ConfigError("there is no message to take back", hint="the conversation is empty")
        last = self.turns[-1]
        self.turns, self.used_tokens = self.turns[:-1], 0
        return last

    def resume(self, turns: Sequence[Turn], *, system: str | None, tokens_are_ours: bool) -> None:
        """Go on from another conversation, or with another system message."""
        self.turns, self.system, self.used_tokens = list(turns), system, 0

    def respond(self, text: str, *, attempt: int = 0) -> Generator[str]:
        """Yield the reply to one message as it arrives; closing the iterator closes the connection.

        Raises:
            ConfigError: an empty message, or the server refuses the request, for example because it is too long.
            SetupError: the server does not answer.
            DataError: it answers with something else than a stream of chat completions.
        """
        if not text:
            raise ConfigError("the message is empty", hint="a server cannot go on with a reply that was cut off")
        answer = self._open("/chat/completions", self.request(text, attempt))
        shown, reason, usage = "", None, None
        started, first, pieces = time.perf_counter(), None, 0
        try:
            with answer:
                for event in events(answer):
                    usage = event.get("usage") or usage
                    for choice in event.get("choices") or ():
                        reason = choice.get("finish_reason") or reason
                        piece = (choice.get("delta") or {}).get("content") or ""
                        if piece:
                            first = first or time.perf_counter()
                            pieces += 1
                            shown += piece
                            yield piece
        except (TimeoutError, ConnectionError) as error:
            raise SetupError(
                f"{self.url} broke off in the middle of a reply: {error}",
                hint="what arrived is kept; /retry asks again",
            ) from error
        finally:
            self._count(usage, pieces, started, first)
            self.turns.append(Turn(message=text, reply=shown, finish_reason=reason))

    def request(self, text: str, attempt: int) -> dict[str, Any]:
        """What is sent with a message."""
        settings = self.settings
        messages = [] if self.system is None else [{"role": "system", "content": self.system}]
        for turn in self.turns:
            messages += [{"role": "user", "content": turn.message}, {"role": "assistant", "content": turn.reply}]
        body: dict[str, Any] = {
            "model": self.name,
            "messages": [*messages, {"role": "user", "content": text}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": settings.temperature,
            "max_tokens": settings.max_new_tokens,
            "seed": settings.seed + len(self.turns) + 1 + attempt * 1_000_003,
        }
        if settings.stops:
            body["stop"] = list(settings.stops)
        return body | {name: value for name in OPTIONAL if (value := getattr(settings, name)) is not None}

    def _count(self, usage: dict[str, Any] | None, pieces: int, started: float, first: float | None) -> None:
        """Add the work of a reply: its tokens as the server counted them, else its pieces."""
        made = pieces
        if usage:
            self.used_tokens = int(usage.get("total_tokens", 0))
            made = int(usage.get("completion_tokens", pieces))
            self.timing.prefill_tokens += int(usage.get("prompt_tokens", 0))
        if first is not None:
            self.timing.prefill_seconds += first - started
            self.timing.decode_tokens += made * (pieces - 1) // pieces  # the first piece may hold several tokens
            self.timing.decode_seconds += time.perf_counter() - first

    def _get(self, path: str) -> dict[str, Any]:
        with self._open(path, None) as answer:
            try:
                found = json.loads(answer.read())
            except ValueError:
                found = None
        if not isinstance(found, dict):
            raise DataError(f"{self.url}{path} does not answer with JSON", hint="the address should end in /v1")
        return found

    def _open(self, path: str, body: dict[str, Any] | None) -> Any:
        """Send a request; the answer, to be read and closed."""
        headers = {"Content-Type": "application/json"}
        if self._api_key is not None:
            headers["Authorization"] = f"Bearer {self._api_key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=headers)
        try:
            return urllib.request.build_opener(NoRedirects).open(request, timeout=self.timeout_seconds)
        except urllib.error.HTTPError as error:
            with error:
                said = refusal(error.read(10_000))
            hints = {401: "name the variable with the key: --api-key-env NAME", 404: "the address should end in /v1"}
            kind = ConfigError if error.code in (400, 404, 413, 422) else SetupError
            raise kind(f"{self.url}{path} refused ({error.code}): {said}", hint=hints.get(error.code)) from None
        except (urllib.error.URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise SetupError(
                f"{self.url} does not answer: {reason}", hint="is the server running, and the port right?"
            ) from None


def events(lines: Iterable[bytes]) -> Generator[dict[str, Any]]:
    r"""The JSON objects of a stream of server-sent events, up to `[DONE]`.

    >>> list(events([b'data: {"a": 1}\n', b'\n', b': comment\n', b'data: [DONE]\n']))
    [{'a': 1}]

    Raises:
        DataError: a line of data is no JSON object.
    """
    for line in lines:
        if not line.startswith(b"data:"):
            continue
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            return
        try:
            event = json.loads(data)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            raise DataError(
                f"the server sent {data[:80]!r}, which is no event of a chat", hint="does --url end in /v1?"
            )
        if isinstance(event.get("error"), dict):
            raise ConfigError(f"the server ended the reply: {event['error'].get('message', 'no reason given')}")
        yield event


def refusal(data: bytes) -> str:
    """What a refusing server says, in one line."""
    try:
        document = json.loads(data)
        error = document.get("error", document)
        text = error.get("message", error) if isinstance(error, dict) else error
    except (ValueError, AttributeError):
        text = data.decode(errors="replace")
    return " ".join(str(text).split())[:300] or "no reason given"
