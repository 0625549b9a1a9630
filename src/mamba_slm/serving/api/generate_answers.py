"""Answers in the form of text-generation-inference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mamba_slm.generation.events import FinishReason
from mamba_slm.serving.api.answers import finite, name_of
from mamba_slm.serving.api.collecting import Collected
from mamba_slm.serving.engine.beside import ReadToken
from mamba_slm.serving.engine.request import EngineRequest, Logprob, Piece
from mamba_slm.text.tokenizer import Tokenizer

FINISH_REASONS: dict[FinishReason, str] = {
    "eos": "eos_token",
    "stop_token": "eos_token",
    "stop_string": "stop_sequence",
    "length": "length",
    "context": "length",
}


def token_of(piece: Piece, tokenizer: Tokenizer, *, text: str | None = None) -> dict[str, Any]:
    """A new token; `text` where it is not its own."""
    logprob = 0.0 if piece.logprob is None else finite(piece.logprob.logprob)
    shown = name_of(piece.token, tokenizer) if text is None else text
    return {"id": piece.token, "text": shown, "logprob": logprob, "special": piece.token in tokenizer.special_ids}


def top_of(piece: Piece, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """The likeliest tokens in the place of one."""

    def entry(one: Logprob) -> dict[str, Any]:
        special = one.token in tokenizer.special_ids
        return {
            "id": one.token,
            "text": name_of(one.token, tokenizer),
            "logprob": finite(one.logprob),
            "special": special,
        }

    return [entry(one) for one in piece.top]


def details_of(
    answer: Collected, request: EngineRequest, tokenizer: Tokenizer, *, prefill: Sequence[ReadToken], top: int | None
) -> dict[str, Any]:
    """How a text came about."""
    reason = answer.last.finish_reason
    assert reason is not None, "the answer is whole"
    return {
        "finish_reason": FINISH_REASONS[reason],
        "generated_tokens": len(answer.pieces),
        "seed": None if request.sampler.is_greedy else request.seed,
        "prefill": [
            {
                "id": one.token,
                "text": name_of(one.token, tokenizer),
                "logprob": None if one.logprob is None else finite(one.logprob.logprob),
            }
            for one in prefill
        ],
        "tokens": [token_of(piece, tokenizer) for piece in answer.pieces],
        **({"top_tokens": [top_of(piece, tokenizer) for piece in answer.pieces]} if top else {}),
    }


def streamed_token(
    answer: Collected, request: EngineRequest, tokenizer: Tokenizer, *, before: str, top: int | None
) -> dict[str, Any]:
    """What a stream says of the newest token of an answer; with the last one also of the whole.

    The texts of the tokens together are the text: a special token has none, and a character comes with its last token.

    Args:
        before: stands before the whole text.
    """
    piece = answer.last
    whole, details = None, None
    if piece.finish_reason is not None:
        whole = before + answer.text
        details = {
            "finish_reason": FINISH_REASONS[piece.finish_reason],
            "generated_tokens": len(answer.pieces),
            "seed": None if request.sampler.is_greedy else request.seed,
            "input_length": len(request.prompt),
        }
    return {
        "index": len(answer.pieces),
        "token": token_of(piece, tokenizer, text=piece.text),
        **({"top_tokens": top_of(piece, tokenizer)} if top else {}),
        "generated_text": whole,
        "details": details,
    }
