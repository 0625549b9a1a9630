"""A conversation with a model that reads every token once.

The session keeps the inference state between turns, so a turn costs what it adds, however long the conversation is.
How turns become tokens is the business of a format (`mamba_slm.generation.turns`). When the context is full, the
session says so; it never drops text.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import torch

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.generate import FinishReason, Timing, stream_tokens
from mamba_slm.generation.runtime import Runtime, RuntimeState, as_runtime
from mamba_slm.generation.sampling import Sampler
from mamba_slm.generation.stream import TextStream
from mamba_slm.generation.turns import TurnFormat
from mamba_slm.model.stack import LanguageModel
from mamba_slm.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class ChatSettings:
    """How a reply is made."""

    sampler: Sampler = field(default_factory=Sampler.greedy)
    """How the next token is drawn."""

    max_new_tokens: int = 256
    """Longest reply."""

    seed: int = 0
    """Of the draws; turn i uses seed + i."""

    stops: tuple[str, ...] = ()
    """Strings that end a reply; not shown, but part of what the model has read."""


class ChatSession:
    """One conversation. `respond` yields the reply as text while it is made."""

    def __init__(
        self,
        model: LanguageModel | Runtime[Any],
        tokenizer: Tokenizer,
        format: TurnFormat,
        settings: ChatSettings | None = None,
    ):
        self.format = format
        self.settings = settings or ChatSettings()
        self.timing = Timing()
        """Work of the whole session, over resets."""
        self.num_turns = 0
        """Turns since the last reset."""
        self.finish_reason: FinishReason | None = None
        """Why the last reply ended; None before the first, or when it was interrupted."""
        self._runtime = as_runtime(model)
        self._tokenizer = tokenizer
        self._tokens: list[int] = []  # everything said, in order
        self._state: RuntimeState | None = None  # has read a beginning of self._tokens

    @property
    def context_tokens(self) -> int:
        """Longest conversation the model can hold."""
        return self._runtime.config.max_context_tokens

    @property
    def used_tokens(self) -> int:
        """Tokens of the conversation so far."""
        return len(self._tokens)

    def reset(self) -> None:
        """Forget the conversation."""
        self._tokens = []
        self._state = None
        self.num_turns = 0
        self.finish_reason = None
        self.format.reset()

    def respond(self, text: str) -> Generator[str]:
        """Yield the reply to one message, piece by piece.

        A reply that is interrupted (by closing the iterator or by KeyboardInterrupt) stays in the conversation as far
        as it was made.

        Raises:
            ConfigError: the message does not fit into what is left of the context. Nothing has changed then.
        """
        if self.finish_reason == "eos" and self.format.ends_with_eos:
            self.reset()
        new = self.format.turn(text)
        self._require_room(len(new))
        self._tokens += new
        self.format.message_added(text)
        self.num_turns += 1
        self.finish_reason = None
        yield from self._reply()

    def _require_room(self, num_new: int) -> None:
        free = self.context_tokens - self.used_tokens
        if num_new >= free:
            raise ConfigError(
                f"the message has {num_new:,} tokens, but only {max(0, free - 1):,} of the context's "
                f"{self.context_tokens:,} are left for it and a reply",
                hint="/reset begins a new conversation; nothing was dropped",
            )

    def _reply(self) -> Generator[str]:
        """Read what the state has not read yet, then make tokens until the reply ends."""
        if self._state is None:
            self._state = self._runtime.new_state(1)
        before = self._snapshot()
        stream = stream_tokens(
            self._runtime,
            [self._tokens[self._num_read() :]],
            max_new_tokens=self.settings.max_new_tokens,
            sampler=self.settings.sampler,
            eos_id=self._tokenizer.eos_id,
            stop_ids=tuple(self.format.stop_ids),
            seed=self.settings.seed + self.num_turns,
            state=self._state,
        )
        texts = TextStream.create(self._tokenizer, self.settings.stops)
        shown = ""
        try:
            for event in stream:
                self._tokens.append(event.token)
                is_end_token = event.finish_reason in ("eos", "stop_token")
                piece = "" if is_end_token else texts.push(event.token)
                if event.finish_reason is not None and not texts.stopped:
                    piece += texts.finish()
                shown += piece
                self.finish_reason = "stop_string" if texts.stopped else event.finish_reason
                yield piece
                if texts.stopped:
                    break
        except KeyboardInterrupt:
            # It may have struck in the middle of a step, with some layers' state advanced and others' not.
            self._restore(before)
            raise
        finally:
            self.timing.add(stream.timing)
            self.format.reply_added(shown, self._tokens[-1])

    def _num_read(self) -> int:
        return 0 if self._state is None else int(self._state.num_tokens[0])

    @torch.no_grad()
    def _snapshot(self) -> RuntimeState | None:
        return None if self._state is None or self._num_read() == 0 else self._state.snapshot()

    @torch.no_grad()
    def _restore(self, snapshot: RuntimeState | None) -> None:
        if snapshot is None:
            self._state = None
        elif self._state is not None:
            self._state.restore(snapshot)
