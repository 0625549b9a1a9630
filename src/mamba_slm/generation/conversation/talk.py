"""What every conversation can do, whether its model runs here or behind a server."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from mamba_slm.generation.conversation.reply_settings import ReplySettings
from mamba_slm.generation.generate import Timing


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One message and its reply."""

    message: str
    """Empty where the model went on with a reply that had been cut off."""

    reply: str
    """As it was shown."""

    finish_reason: str | None = None
    """Why the reply ended; None where it was interrupted."""

    reply_tokens: tuple[int, ...] | None = None
    """As the model made them, end tokens included; None where they are not known."""


class Conversation(Protocol):
    """A conversation with one model."""

    name: str
    """Of the model, for the user."""

    turns: list[Turn]
    """So far; never changed from outside."""

    timing: Timing
    """Work of the whole conversation, of replies that were taken back, too."""

    settings: ReplySettings
    """Of the next reply; may be replaced at any time."""

    @property
    def context_tokens(self) -> int | None:
        """Longest conversation the model can hold; None where a server does not say."""
        ...

    @property
    def used_tokens(self) -> int:
        """Tokens of the conversation so far."""
        ...

    @property
    def ended(self) -> str | None:
        """What the user should know about how the last reply ended."""
        ...

    def respond(self, text: str, *, attempt: int = 0) -> Generator[str]:
        """Yield the reply to one message, piece by piece.

        Args:
            attempt: another number draws another reply to the same message.

        Raises:
            ConfigError: the message does not fit into what is left of the context. Nothing has changed then.
        """
        ...

    def undo(self) -> Turn:
        """Take back the last message and its reply.

        Raises:
            ConfigError: there is none.
        """
        ...

    def reset(self) -> None:
        """Forget the conversation; a system message stays."""
        ...

    def resume(self, turns: Sequence[Turn], *, system: str | None, tokens_are_ours: bool) -> None:
        """Go on from another conversation, or from this one with another system message; read with the next message.

        Args:
            tokens_are_ours: `reply_tokens` were made with this tokenizer; else the texts of the replies are read.

        Raises:
            ConfigError: it does not fit into the context, or the model has no place for a system message. Nothing has
                changed then.
        """
        ...

    @property
    def system(self) -> str | None:
        """The system message."""
        ...

    @property
    def tokenizer_fingerprint(self) -> str | None:
        """Of the tokenizer; None where a server does not say."""
        ...

    def tokens_of(self, text: str) -> list[tuple[int, bytes]]:
        """Id and bytes of each token of a text.

        Raises:
            ConfigError: the tokenizer is not at hand.
        """
        ...


def turns(count: int) -> str:
    """A number of turns.

    >>> turns(1), turns(2)
    ('1 turn', '2 turns')
    """
    return f"{count} turn{'' if count == 1 else 's'}"
