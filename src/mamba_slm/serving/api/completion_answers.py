"""Choices of a completion, whole and in pieces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mamba_slm.generation.stream import TokenDecoder
from mamba_slm.serving.api.answers import completion_logprobs, finish_of, finite, name_of
from mamba_slm.serving.engine.beside import ReadToken
from mamba_slm.serving.engine.request import Piece
from mamba_slm.text.tokenizer import Tokenizer


class CompletionChoice:
    """One text."""

    def __init__(
        self,
        number: int,
        tokenizer: Tokenizer,
        *,
        before: str = "",
        read: Sequence[ReadToken] = (),
        with_logprobs: bool = False,
    ):
        """
        Args:
            before: the prompt, where it is repeated.
            read: its tokens, where their likelihoods are told.
        """
        self._number, self._tokenizer, self._with_logprobs = number, tokenizer, with_logprobs
        self._before, self._read = before, read
        self._sent = 0

    def whole(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        """All of it; no pieces: nothing was to be made."""
        return {
            "index": self._number,
            "text": self._before + "".join(piece.text for piece in pieces),
            "logprobs": self._logprobs(pieces) if self._with_logprobs else None,
            "finish_reason": finish_of(pieces[-1]) if pieces else "length",
        }

    def chunks(self, piece: Piece) -> list[dict[str, Any]]:
        """What a stream says of the next token; the prompt comes with the first."""
        made = {**self.whole([piece]), "finish_reason": finish_of(piece)}
        self._sent += len(made["text"])
        self._before, self._read = "", ()
        return [made]

    def _logprobs(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        """Of the prompt, where it is told, and of the pieces."""
        told = completion_logprobs(pieces, self._tokenizer, offset=self._sent + len(self._before))
        decoder, offset = TokenDecoder(self._tokenizer), self._sent
        for number, one in enumerate(self._read):
            told["tokens"].insert(number, name_of(one.token, self._tokenizer))
            told["token_logprobs"].insert(number, None if one.logprob is None else finite(one.logprob.logprob))
            top = {name_of(other.token, self._tokenizer): finite(other.logprob) for other in one.top}
            told["top_logprobs"].insert(number, None if one.logprob is None else top)
            told["text_offset"].insert(number, offset)
            offset += len(decoder.push(one.token))
        return told


def mean_logprob(pieces: Sequence[Piece]) -> float:
    """Of the tokens of a text, by which the best is found."""
    return sum(piece.logprob.logprob for piece in pieces if piece.logprob is not None) / max(len(pieces), 1)
