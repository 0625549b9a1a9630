"""How the turns of a conversation become tokens: through the model's chat template, or as one growing document.

A format only ever appends: `turn` returns what a new message adds after everything said so far, so that the inference
state can be kept.
"""

from __future__ import annotations

from typing import Protocol

from mamba_slm.text.tokenizer import Tokenizer


class TurnFormat(Protocol):
    """What a `ChatSession` needs to know about the shape of a conversation."""

    stop_ids: frozenset[int]
    """Tokens that end a reply, besides eos."""

    ends_with_eos: bool
    """True: eos ends the conversation itself, and the next message begins a new one."""

    reason: str
    """What this format is and why it was chosen, for the user."""

    def turn(self, text: str) -> list[int]:
        """Tokens that the next message adds, up to where the model goes on. Changes nothing.

        An empty text lets the model go on where its last reply stopped.
        """
        ...

    def message_added(self, text: str) -> None:
        """The tokens of `turn(text)` are now part of the conversation."""
        ...

    def reply_added(self, text: str, last_token: int) -> None:
        """The model replied `text`; `last_token` is the conversation's last one, of whatever kind."""
        ...

    def reset(self) -> None:
        """A new conversation begins."""
        ...


class Continuation:
    """Plain text: every line goes on with the same document, on a line of its own, and the model continues it."""

    ends_with_eos = True
    reason = (
        "plain continuation of your lines: the model folder has no chat template, so the model knows documents only"
    )

    def __init__(self, tokenizer: Tokenizer):
        self.stop_ids: frozenset[int] = frozenset()
        self._tokenizer = tokenizer
        self._is_empty = True
        self._at_line_start = True

    def turn(self, text: str) -> list[int]:
        """The text as typed; a line break first where the document so far does not end in one."""
        if self._is_empty:
            return [self._tokenizer.bos_id, *self._tokenizer.encode(text)]
        return self._tokenizer.encode(text if self._at_line_start or not text else "\n" + text)

    def message_added(self, text: str) -> None:
        self._is_empty = False
        self._note_end(text)

    def reply_added(self, text: str, last_token: int) -> None:
        self._note_end(text)

    def reset(self) -> None:
        self._is_empty = self._at_line_start = True

    def _note_end(self, text: str) -> None:
        if text:
            self._at_line_start = text.endswith("\n")
