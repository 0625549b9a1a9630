"""How the turns of a conversation become tokens: through the model's chat template, or as one growing document.

A format only ever appends: `turn` returns what a new message adds after everything said so far, so that the inference
state can be kept.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, Self

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.text.chat import render_chat
from mamba_slm.text.chat_template import read_chat_template
from mamba_slm.text.tokenizer import Tokenizer

EncodeMessages = Callable[[Sequence[dict[str, str]], bool], list[int]]
"""Messages with `role` and `content`, and whether to open the assistant's reply, to token ids."""


class TurnFormat(Protocol):
    """What a `ChatSession` needs to know about the shape of a conversation."""

    stop_ids: frozenset[int]
    """Tokens that end a reply, besides eos."""

    ends_with_eos: bool
    """True: eos ends the conversation itself, and the next message begins a new one."""

    reason: str
    """What this format is and why it was chosen, for the user."""

    system: str | None
    """The system message."""

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

    def copy(self) -> Self:
        """The same conversation at this point; what happens to one is unknown to the other."""
        ...

    def with_system(self, text: str | None) -> Self:
        """A new conversation with this system message.

        Raises:
            ConfigError: there is no place for one.
        """
        ...


class Continuation:
    """Plain text: every line goes on with the same document, on a line of its own, and the model continues it."""

    ends_with_eos = True
    reason = (
        "plain continuation of your lines: the model folder has no chat template, so the model knows documents only"
    )
    system: str | None = None

    def __init__(self, tokenizer: Tokenizer):
        self.stop_ids: frozenset[int] = frozenset()
        self._tokenizer = tokenizer
        self._is_empty = True
        self._at_line_start = True

    def turn(self, text: str) -> list[int]:
        """The text as typed; a line break first where the document so far does not end in one."""
        if self._is_empty:
            return [self._tokenizer.bos_id, *self._tokenizer.encode(text)]
        return self._tokenizer.encode(text if self._at_line_start or not text else "\n" + text, continues=True)

    def message_added(self, text: str) -> None:
        self._is_empty = False
        self._note_end(text)

    def reply_added(self, text: str, last_token: int) -> None:
        self._note_end(text)

    def reset(self) -> None:
        self._is_empty = self._at_line_start = True

    def copy(self) -> Self:
        return copy.copy(self)

    def with_system(self, text: str | None) -> Self:
        raise ConfigError(
            "a system message needs a chat template, and this model has none: it continues plain text",
            hint="use a model that was fine-tuned for chat",
        )

    def _note_end(self, text: str) -> None:
        if text:
            self._at_line_start = text.endswith("\n")


class Templated:
    """Turns through the model's chat template. Only what a turn adds is encoded; what was said stays as it was read."""

    ends_with_eos = False
    reason = "chat with turns: the model folder has a chat template"

    def __init__(self, encode: EncodeMessages, *, end_of_turn_id: int, system: str | None = None):
        """
        Args:
            encode: messages and whether to open a reply to token ids, such as those of a chat template.
            end_of_turn_id: the token that the template writes after every message.
            system: a first message that sets the tone.
        """
        self.stop_ids: frozenset[int] = frozenset({end_of_turn_id})
        self._encode = encode
        self._end_of_turn_id = end_of_turn_id
        self.system = system
        self.reset()

    def turn(self, text: str) -> list[int]:
        """What the template writes after the last reply, up to where the next reply begins.

        Raises:
            ConfigError: an empty message after a complete reply, or a template that rewrites earlier turns.
        """
        is_first = self._last_token is None
        was_cut = not is_first and self._last_token != self._end_of_turn_id
        if not text:
            if was_cut:
                return []
            raise ConfigError("the message is empty", hint="an empty line goes on only where a reply was cut off")
        whole = self._encode([*self._messages, {"role": "user", "content": text}], True)
        if is_first:
            return whole
        said = self._encode(self._messages, False)
        if whole[: len(said)] != said or self._end_of_turn_id not in said:
            raise ConfigError(
                "the model's chat template rewrites earlier turns, so a conversation cannot be continued",
                hint="/reset before every message, or use a template that only appends, such as ChatML",
            )
        end_of_reply = len(said) - 1 - said[::-1].index(self._end_of_turn_id)
        return whole[end_of_reply if was_cut else end_of_reply + 1 :]  # a cut reply is closed first

    def message_added(self, text: str) -> None:
        if text:
            self._messages.append({"role": "user", "content": text})

    def reply_added(self, text: str, last_token: int) -> None:
        self._last_token = last_token
        if self._messages[-1]["role"] == "assistant":
            text = self._messages.pop()["content"] + text
        self._messages.append({"role": "assistant", "content": text})

    def reset(self) -> None:
        self._messages: list[dict[str, str]] = []
        if self.system is not None:
            self._messages.append({"role": "system", "content": self.system})
        self._last_token: int | None = None

    def copy(self) -> Self:
        other = copy.copy(self)
        other._messages = [dict(message) for message in self._messages]
        return other

    def with_system(self, text: str | None) -> Self:
        other = self.copy()
        other.system = text
        other.reset()
        return other


def turn_format(folder: Path, tokenizer: Tokenizer, *, system: str | None = None) -> TurnFormat:
    """The format for a model folder: turns where it has a chat template, plain continuation where it has none.

    Raises:
        ConfigError: a system message for a model without a chat template.
        DataError: a template that cannot be read or rendered, or that ends its messages with no special token.
    """
    template = read_chat_template(folder)
    if template is not None:

        def encode(messages: Sequence[dict[str, str]], open_reply: bool) -> list[int]:
            return render_chat(messages, tokenizer, add_generation_prompt=open_reply, template=template).ids

        return Templated(encode, end_of_turn_id=end_of_turn(encode, tokenizer), system=system)
    if system is not None:
        raise ConfigError(
            f"a system message needs a chat template, and {folder} has none",
            hint="leave --system out, or use a model that was fine-tuned for chat",
        )
    return Continuation(tokenizer)


def end_of_turn(encode: EncodeMessages, tokenizer: Tokenizer) -> int:
    """The special token with which a template ends a reply: the last one of a rendered exchange.

    Raises:
        DataError: there is none, so that nothing would end a reply.
    """
    exchange = encode([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], False)
    specials = [token for token in exchange if token in tokenizer.special_ids]
    if not specials:
        raise DataError(
            "the model's chat template writes no special token that ends a reply",
            hint="use a template such as ChatML, and a tokenizer that has its tokens",
        )
    return specials[-1]
