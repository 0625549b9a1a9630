"""From tokens that arrive one at a time to text that may be shown at once.

Two things can be torn apart by a token border: a UTF-8 character, whose bytes may sit in several byte-level tokens,
and a stop string. Both are held back until it is known what they are, and never longer.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mamba_slm.core.errors import ConfigError


class TokenBytes(Protocol):
    """What `TokenDecoder` needs of a tokenizer."""

    @property
    def special_ids(self) -> frozenset[int] | Sequence[int]: ...

    def token_bytes(self, token: int, /) -> bytes: ...


class TokenDecoder:
    """Incremental detokenisation: bytes wait until their character is complete.

    The concatenation of everything that `push` and `finish` return is the decoding of all bytes at once, with U+FFFD
    for bytes that are no UTF-8. Special tokens have no text.
    """

    def __init__(self, tokenizer: TokenBytes):
        self._tokenizer = tokenizer
        self._special_ids = frozenset(tokenizer.special_ids)
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """The text that became certain with this token; often empty for text outside ASCII."""
        if token in self._special_ids:
            return ""
        return self._utf8.decode(self._tokenizer.token_bytes(token))

    def finish(self) -> str:
        """The rest: U+FFFD when the last character never became complete, else nothing."""
        return self._utf8.decode(b"", final=True)


class StopStrings:
    """Cut text at the first stop string, wherever the borders between its pieces are.

    The stop string that is complete first wins, the longest of those that end at the same place. It is not part of
    the text that is returned. The result does not depend on how the text was cut into pieces.
    """

    def __init__(self, stops: Sequence[str] = ()):
        if any(not stop for stop in stops):
            raise ConfigError("a stop string is empty", hint="an empty stop string would end every text at once")
        self._stops = tuple(stops)
        self._held = ""
        self.matched: str | None = None
        """The stop string that was found, or None so far."""

    def push(self, text: str) -> str:
        """Add a piece; return what is certainly not part of a stop string. After a match, returns nothing more."""
        if self.matched is not None:
            return ""
        text = self._held + text
        ends = [(text.find(stop) + len(stop), -len(stop), stop) for stop in self._stops if stop in text]
        if ends:
            end, _, self.matched = min(ends)
            self._held = ""
            return text[: end - len(self.matched)]
        held = max((overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def finish(self) -> str:
        """What was held back for a stop string that never came."""
        held, self._held = self._held, ""
        return held


def overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a proper beginning of `stop`.

    >>> overlap("one <|im", "<|im_end|>"), overlap("aab", "abc"), overlap("abc", "abc")
    (4, 2, 0)
    """
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)


@dataclass
class TextStream:
    """Tokens in, text out: a `TokenDecoder` followed by `StopStrings`."""

    decoder: TokenDecoder
    stops: StopStrings

    @classmethod
    def create(cls, tokenizer: TokenBytes, stops: Sequence[str] = ()) -> TextStream:
        """A stream for one row.

        Raises:
            ConfigError: a stop string is empty.
        """
        return cls(TokenDecoder(tokenizer), StopStrings(stops))

    @property
    def stopped(self) -> bool:
        """True once a stop string was found; what follows is ignored."""
        return self.stops.matched is not None

    def push(self, token: int) -> str:
        """The text that became certain with this token."""
        return self.stops.push(self.decoder.push(token))

    def finish(self) -> str:
        """The rest of the text; call once, after the last token."""
        return self.stops.push(self.decoder.finish()) + self.stops.finish()
