"""Choices of a chat, whole and in pieces, with the functions that they call."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from mamba_slm.serving.api.answers import chat_logprobs, finish_of, name_of
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
        self._number, self._tokenizer, self._use, self._with_logprobs = number, tokenizer, use, with_logprobs
        self._parser = None if use is None else use.parser()
        tags = () if use is None else (use.form.head, use.form.foot)
        names = {id: name_of(id, tokenizer) for id in tokenizer.special_ids}
        self._tags = {id: name for id, name in names.items() if name in tags}
        self._begun = False

    def chunks(self, piece: Piece) -> list[dict[str, Any]]:
        """What a stream says of the next token."""
        empty = {"index": self._number, "delta": {}, "logprobs": None, "finish_reason": None}
        made = [] if self._begun else [{**empty, "delta": {"role": "assistant", "content": ""}}]
        self._begun = True
        deltas = [delta_of(part) for part in self._parts(piece)]
        told = chat_logprobs([piece], self._tokenizer) if self._with_logprobs else None
        if told and told["content"] and not deltas:
            deltas = [{"content": ""}]
        made += [{**empty, "delta": delta} for delta in deltas]
        if told and told["content"]:
            made[-1]["logprobs"] = told
        if piece.finish_reason is not None:
            made.append({**empty, "finish_reason": self._finish(piece)})
        return made

    def whole(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        """The answer at once."""
        text, calls = "", []
        for piece in pieces:
            for part in self._parts(piece):
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
            "finish_reason": self._finish(pieces[-1]),
        }

    def _parts(self, piece: Piece) -> list[Part]:
        """What a token adds to the text and to calls."""
        if self._parser is None:
            return [Said(piece.text)] if piece.text else []
        parts = self._parser.push(piece.text + self._tags.get(piece.token, ""))
        return parts if piece.finish_reason is None else parts + self._parser.finish()

    def _finish(self, piece: Piece) -> str | None:
        reason = finish_of(piece)
        return "tool_calls" if reason == "stop" and self._parser is not None and self._parser.num_calls else reason


def call_of(part: Called) -> dict[str, Any]:
    """A call that has begun."""
    function = {"name": part.name, "arguments": ""}
    return {"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function}


def delta_of(part: Part) -> dict[str, Any]:
    """What a part of an answer adds to a message."""
    if isinstance(part, Said):
        return {"content": part.text}
    if isinstance(part, Arguments):
        return {"tool_calls": [{"index": part.index, "function": {"arguments": part.text}}]}
    return {"tool_calls": [{"index": part.index, **call_of(part)}]}
