"""An answer in this form: its items as they grow, the events that tell so, and the whole.

The whole is what the events add up to: both come from here.
"""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import copy
import json
import time
import uuid
from collections.abc import Sequence
from typing import Any

from mamba_slm.core.errors import MambaSlmError
from mamba_slm.serving.api import errors
from mamba_slm.serving.api.answer_parts import AnswerParts
from mamba_slm.serving.api.answers import chat_logprobs
from mamba_slm.serving.api.chat_answers import new_call_id
from mamba_slm.serving.api.conversations import Asked
from mamba_slm.serving.api.responses.bodies import FunctionChoice, ResponsesBody
from mamba_slm.serving.api.streaming import event
from mamba_slm.serving.api.tools.parsing import Called, Said
from mamba_slm.serving.engine.request import Piece, Usage

Event = dict[str, Any]
FAILURES = {429: "rate_limit_exceeded", 400: "invalid_prompt"}
"""OpenAI's words by status; all others are `server_error`."""


class ResponseTeller:
    """One answer, whole or as a `streaming.Teller`."""

    def __init__(self, body: ResponsesBody, asked: Asked):
        self._response = empty_response(body, asked)
        self._tokenizer, self._has_logprobs = asked.model.tokenizer, asked.has_logprobs
        self._parts = AnswerParts(asked.model.tokenizer, asked.prompt.tool_use)
        self._open: dict[str, Any] | None = None
        self._grown: list[str] = []
        """The text or the arguments of the open item, put together when it ends."""
        self._untold: list[dict[str, Any]] = []
        """Likelihoods of tokens whose text is not certain yet."""
        self._num_events = 0

    def whole(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        """The answer at once."""
        for piece in pieces:
            self._grow(piece)
        return self._response

    def begin(self) -> list[str]:
        """That there will be an answer."""
        return self._sent([{"type": f"response.{name}", "response": self._response} for name in CREATED])

    def tell(self, number: int, piece: Piece) -> list[str]:
        """What the next token adds."""
        return self._sent(self._grow(piece))

    def fail(self, error: MambaSlmError) -> list[str]:
        """That there is no more. The last event has the fields as they are documented, and those by which OpenAI's
        client raises an error."""
        reply = errors.response_of(error)
        detail = json.loads(bytes(reply.body))["error"]
        code = FAILURES.get(reply.status_code, "server_error")
        self._settle("incomplete")
        self._response |= {"status": "failed", "error": {"code": code, "message": detail["message"]}}
        flat = {"type": "error", "code": code, "message": detail["message"], "param": detail["param"]}
        return self._sent([{"type": "response.failed", "response": self._response}, {**flat, "error": detail}])

    def end(self) -> list[str]:
        """Nothing: the last token has told it."""
        return []

    def _sent(self, events: Sequence[Event]) -> list[str]:
        """Events as text, numbered."""
        texts = []
        for one in events:
            texts.append(event({**one, "sequence_number": self._num_events}, one["type"]))
            self._num_events += 1
        return texts

    @property
    def _place(self) -> dict[str, Any]:
        """Of the item that grows."""
        assert self._open is not None
        return {"item_id": self._open["id"], "output_index": len(self._response["output"]) - 1}

    def _grow(self, piece: Piece) -> list[Event]:
        """Add a token."""
        made: list[Event] = []
        if self._has_logprobs:
            self._untold += chat_logprobs([piece], self._tokenizer)["content"]
        for part in self._parts.push(piece):
            if isinstance(part, Said):
                made += self._say(part.text)
            elif isinstance(part, Called):
                made += self._close("completed")
                item = {"id": new_id("fc"), "call_id": new_call_id(), "name": part.name, "arguments": ""}
                made += self._begin({"type": "function_call", **item})
            else:
                self._grown.append(part.text)
                made.append({"type": "response.function_call_arguments.delta", **self._place, "delta": part.text})
        if self._open is not None and self._open["type"] == "function_call":
            self._untold = []  # those of calls are told nowhere
        if piece.finish_reason is not None:
            made += self._finish(piece)
        return made

    def _say(self, text: str) -> list[Event]:
        """Add text to the message, which begins where there is none."""
        made: list[Event] = []
        if self._open is None or self._open["type"] != "message":
            made += self._close("completed")
            made += self._begin({"type": "message", "id": new_id("msg"), "role": "assistant", "content": []})
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            made.append({"type": "response.content_part.added", **self._place, "content_index": 0, "part": {**part}})
            assert self._open is not None
            self._open["content"].append({**part, "logprobs": []})
        if text or self._untold:
            self._grown.append(text)
            self._open["content"][0]["logprobs"] += self._untold
            delta = {"delta": text, "logprobs": self._untold}
            made.append({"type": "response.output_text.delta", **self._place, "content_index": 0, **delta})
            self._untold = []
        return made

    def _begin(self, item: dict[str, Any]) -> list[Event]:
        """A new item."""
        self._open = {**item, "status": "in_progress"}
        self._response["output"].append(self._open)
        index = len(self._response["output"]) - 1
        shown = copy.deepcopy(self._open)
        return [{"type": "response.output_item.added", "output_index": index, "item": shown}]

    def _close(self, status: str) -> list[Event]:
        """The end of the item that grows, where there is one."""
        item = self._open
        if item is None:
            return []
        self._settle(status)
        made: list[Event] = []
        if item["type"] == "message":
            [part] = item["content"]
            place = {**self._place, "content_index": 0}
            said = {"text": part["text"], "logprobs": part["logprobs"]}
            made.append({"type": "response.output_text.done", **place, **said})
            made.append({"type": "response.content_part.done", **place, "part": part})
        else:
            done = {"name": item["name"], "arguments": item["arguments"]}
            made.append({"type": "response.function_call_arguments.done", **self._place, **done})
        made.append({"type": "response.output_item.done", "output_index": self._place["output_index"], "item": item})
        self._open = None
        return made

    def _settle(self, status: str) -> None:
        """Put into the open item, where there is one, what it consists of."""
        if self._open is None:
            return
        holder, key = (
            (self._open["content"][0], "text") if self._open["type"] == "message" else (self._open, "arguments")
        )
        holder[key] = "".join(self._grown)
        self._open["status"] = status
        self._grown = []

    def _finish(self, piece: Piece) -> list[Event]:
        """Behind the last token. An answer that is nothing is an empty message."""
        made = self._say("") if self._untold or self._open is None else []
        is_cut = self._parts.finish_of(piece) == "length"
        status = "incomplete" if is_cut else "completed"
        made += self._close(status)
        self._response |= {
            "status": status,
            "completed_at": None if is_cut else int(time.time()),
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "usage": None if piece.usage is None else usage_of(piece.usage),
        }
        return [*made, {"type": f"response.{status}", "response": self._response}]


CREATED = ("created", "in_progress")


def new_id(kind: str) -> str:
    """Of an item or an answer."""
    return f"{kind}_{uuid.uuid4().hex}"


def usage_of(usage: Usage) -> dict[str, Any]:
    """What the request cost."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.new_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.new_tokens,
    }


def empty_response(body: ResponsesBody, asked: Asked) -> dict[str, Any]:
    """An answer before its first token, with what was asked for."""
    choice = body.tool_choice
    text = {} if body.text is None else body.text.model_dump(by_alias=True, exclude_none=True)
    return {
        "id": new_id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata or {},
        "model": asked.model.name,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": None,
        "prompt_cache_key": body.prompt_cache_key,
        "safety_identifier": body.safety_identifier,
        "store": False,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "text": {"format": {"type": "text"}, **text},
        "tool_choice": choice.model_dump() if isinstance(choice, FunctionChoice) else choice or "auto",
        "tools": [tool.model_dump() for tool in body.tools or ()],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": body.user,
    }
