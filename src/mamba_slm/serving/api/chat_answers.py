"""Choices of a chat, whole and in pieces, with the functions that they call."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from mamba_slm.serving.api.answer_parts import AnswerParts
from mamba_slm.serving.api.answers import chat_logprobs
from mamba_slm.serving.api.tools.choice import ToolUse
from mamba_slm.serving.api.tools.parsing import Arguments, Called, Part, Said
from mamba_slm.serving.engine.request import Piece
from mamba_slm.text.tokenizer import Tokenizer


class ChatChoice:
    """One answer to a conversation."""

    def __init__(self, number: int, tokenizer: Tokenizer, *, use: ToolUse | None, with_logprobs: bool):
        """
        Args:
            use: where the answer may call functions.
        """
        self._number, self._tokenizer, self._with_logprobs = number, tokenizer, with_logprobs
        self._parts = AnswerParts(tokenizer, use)
        self._begun = False

    def chunks(self, piece: Piece) -> list[dict[str, Any]]:
        """What a stream says of the next token."""
        empty = {"index": self._number, "delta": {}, "logprobs": None, "finish_reason": None}
        made = [] if self._begun else [{**empty, "delta": {"role": "assistant", "content": ""}}]
        self._begun = True
        deltas = [delta_of(part) for part in self._parts.push(piece)]
        told = chat_logprobs([piece], self._tokenizer) if self._with_logprobs else None
        if told and told["content"] and not deltas:
            deltas = [{"content": ""}]
        made += [{**empty, "delta": delta} for delta in deltas]
        if told and told["content"]:
            made[-1]["logprobs"] = told
        if piece.finish_reason is not None:
            made.append({**empty, "finish_reason": self._parts.finish_of(piece)})
        return made

    def whole(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        """The answer at once."""
        text, calls = "", []
        for piece in pieces:
            for part in self._parts.push(piece):
                if isinstance(part, Said):
                    text += part.text
                elif isinstance(part, Called):
                    calls.append(call_of(part))
                else:
                    calls[part.index]["function"]["arguments"] += part.text
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if calls:
            message |= {"content": text or None, "tool_calls": calls}
        return {
            "index": self._number,
            "message": message,
            "logprobs": chat_logprobs(pieces, self._tokenizer) if self._with_logprobs else None,
            "finish_reason": self._parts.finish_of(pieces[-1]),
        }


def call_of(part: Called) -> dict[str, Any]:
    """A call that has begun."""
    function = {"name": part.name, "arguments": ""}
    return {"id": new_call_id(), "type": "function", "function": function}


def new_call_id() -> str:
    """By which the result of a call names it."""
    return f"call_{uuid.uuid4().hex[:24]}"


def delta_of(part: Part) -> dict[str, Any]:
    """What a part of an answer adds to a message."""
    if isinstance(part, Said):
        return {"content": part.text}
    if isinstance(part, Arguments):
        return {"tool_calls": [{"index": part.index, "function": {"arguments": part.text}}]}
    return {"tool_calls": [{"index": part.index, **call_of(part)}]}
