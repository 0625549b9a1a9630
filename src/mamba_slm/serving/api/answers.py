"""Bodies of answers, whole and in pieces, as OpenAI's clients read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mamba_slm.generation.events import FinishReason
from mamba_slm.serving.engine.request import Logprob, Piece
from mamba_slm.text.tokenizer import Tokenizer

LEAST_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON cannot say."""
FINISH_REASONS: dict[FinishReason, str] = {
    "eos": "stop",
    "stop_token": "stop",
    "stop_string": "stop",
    "length": "length",
    "context": "length",
}


def finish_of(piece: Piece) -> str | None:
    """OpenAI's word for how a text ended; None while it goes on."""
    return None if piece.finish_reason is None else FINISH_REASONS[piece.finish_reason]


def name_of(token: int, tokenizer: Tokenizer) -> str:
    """The text of a token, special ones by their names."""
    return tokenizer.decode([token], skip_special=False)


def finite(logprob: float) -> float:
    """As JSON can say it."""
    return max(logprob, LEAST_LOGPROB)


def chat_logprobs(pieces: Sequence[Piece], tokenizer: Tokenizer) -> dict[str, Any]:
    """`logprobs` of a chat's choice; the token that ended it is left out."""

    def entry(one: Logprob) -> dict[str, Any]:
        text = name_of(one.token, tokenizer)
        raw = b"" if one.token in tokenizer.special_ids else tokenizer.token_bytes(one.token)
        return {"token": text, "logprob": finite(one.logprob), "bytes": list(raw or text.encode())}

    shown = [piece for piece in pieces if piece.finish_reason not in ("eos", "stop_token")]
    return {
        "content": [
            {**entry(piece.logprob), "top_logprobs": [entry(one) for one in piece.top]}
            for piece in shown
            if piece.logprob is not None
        ],
        "refusal": None,
    }


def completion_logprobs(pieces: Sequence[Piece], tokenizer: Tokenizer, *, offset: int) -> dict[str, Any]:
    """`logprobs` of a completion's choice, the old form: lists side by side.

    Args:
        offset: characters before the first piece.
    """
    tokens, logprobs, tops, offsets = [], [], [], []
    for piece in pieces:
        if piece.logprob is not None and piece.finish_reason not in ("eos", "stop_token"):
            tokens.append(name_of(piece.token, tokenizer))
            logprobs.append(finite(piece.logprob.logprob))
            tops.append({name_of(one.token, tokenizer): finite(one.logprob) for one in piece.top})
            offsets.append(offset)
        offset += len(piece.text)
    return {"tokens": tokens, "token_logprobs": logprobs, "top_logprobs": tops, "text_offset": offsets}


def head(kind: str, id: str, created: int, model: str) -> dict[str, Any]:
    """What every body begins with."""
    return {"id": id, "object": kind, "created": created, "model": model, "system_fingerprint": None}
