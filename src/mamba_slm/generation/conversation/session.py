"""A conversation with a model that reads every token once.

The session keeps the inference state between turns, so a turn costs what it adds, however long the conversation is.
The state before the last message is kept, too, so that taking that message back costs nothing. How turns become tokens
is the business of a format (`mamba_slm.generation.conversation.turns`). When the context is full, the session says so;
it never drops text.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.conversation.reply_settings import ReplySettings
from mamba_slm.generation.conversation.talk import Turn
from mamba_slm.generation.conversation.turns import TurnFormat
from mamba_slm.generation.events import FinishReason, Timing
from mamba_slm.generation.generate import stream_tokens
from mamba_slm.generation.request import Strategy
from mamba_slm.generation.runtime import Runtime, RuntimeState, as_runtime
from mamba_slm.generation.sampling import Sampler
from mamba_slm.generation.stream import TextStream
from mamba_slm.model.stack import LanguageModel
from mamba_slm.text.tokenizer import Tokenizer

ATTEMPT_SEED = 1_000_003
"""Between the seeds of two attempts at the same reply; far more than a conversation has turns."""

ENDINGS = {
    "length": "stopped at --max-new-tokens; an empty line goes on",
    "context": "the model's context is full",
}
"""What is worth saying about how a reply ended."""


@dataclass(frozen=True)
class Moment:
    """A conversation before a message."""

    num_tokens: int
    state: RuntimeState | None
    format: TurnFormat


class ChatSession:
    """One `Conversation` with a model that runs here. `respond` yields the reply as text while it is made."""

    def __init__(
        self,
        model: LanguageModel | Runtime[Any],
        tokenizer: Tokenizer,
        format: TurnFormat,
        settings: ReplySettings | None = None,
        *,
        name: str = "model",
        strategy: Strategy | None = None,
        adjust: Callable[[Sampler], Sampler] = lambda sampler: sampler,
    ):
        """
        Args:
            model: on any device, or a runtime that has one.
            tokenizer: of the model.
            format: how turns become tokens.
            settings: of the replies; None is greedy.
            name: for the user.
            strategy: another way to make replies than one draw after the other.
            adjust: what is done to the sampler of the settings, whatever they become.
        """
        self._strategy, self._adjust = strategy, adjust
        self.name = name
        self.format = format
        self.settings = settings or ReplySettings(temperature=0)
        self.timing = Timing()
        """Work of the whole session, over resets."""
        self.turns: list[Turn] = []
        """Since the last reset."""
        self._runtime = as_runtime(model)
        self._tokenizer = tokenizer
        self._tokens: list[int] = []  # everything said, in order
        self._state: RuntimeState | None = None  # has read a beginning of self._tokens
        self._before: Moment | None = None  # the last message; None where it must be found by reading again

    @property
    def context_tokens(self) -> int:
        """Longest conversation the model can hold."""
        return self._runtime.config.max_context_tokens

    @property
    def used_tokens(self) -> int:
        """Tokens of the conversation so far."""
        return len(self._tokens)

    @property
    def num_turns(self) -> int:
        """Turns since the last reset."""
        return len(self.turns)

    @property
    def finish_reason(self) -> str | None:
        """Why the last reply ended; None before the first, or when it was interrupted."""
        return self.turns[-1].finish_reason if self.turns else None

    @property
    def ended(self) -> str | None:
        """What the user should know about how the last reply ended."""
        if self.finish_reason == "eos" and self.format.ends_with_eos:
            return "the document ended here; the next line begins a new one"
        return ENDINGS.get(self.finish_reason or "")

    @property
    def system(self) -> str | None:
        """The system message."""
        return self.format.system

    @property
    def tokenizer_fingerprint(self) -> str:
        """Of the tokenizer."""
        return self._tokenizer.fingerprint

    def tokens_of(self, text: str) -> list[tuple[int, bytes]]:
        """Id and bytes of each token of a text."""
        return [(token, self._tokenizer.token_bytes(token)) for token in self._tokenizer.encode(text)]

    def reset(self) -> None:
        """Forget the conversation; a system message stays."""
        self._tokens = []
        self._state = self._before = None
        self.turns = []
        self.format.reset()

    def respond(self, text: str, *, attempt: int = 0) -> Generator[str]:
        """Yield the reply to one message, piece by piece.

        A reply that is interrupted (by closing the iterator or by KeyboardInterrupt) stays in the conversation as far
        as it was made.

        Raises:
            ConfigError: the message does not fit into what is left of the context. Nothing has changed then.
        """
        if self.finish_reason == "eos" and self.format.ends_with_eos:
            self.reset()
        new = self.format.turn(text)
        self._require_room(self.used_tokens, len(new))
        self._before = Moment(self.used_tokens, self._snapshot(), self.format.copy())
        self._tokens += new
        self.format.message_added(text)
        yield from self._reply(text, attempt)

    def undo(self) -> Turn:
        """Take back the last message and its reply; the state before it is at hand, or is made by reading again.

        Raises:
            ConfigError: there is none.
        """
        if not self.turns:
            raise ConfigError("there is no message to take back", hint="the conversation is empty")
        last, before = self.turns[-1], self._before
        if before is None:
            self.resume(self.turns[:-1], system=self.system, tokens_are_ours=True)
            return last
        self.turns = self.turns[:-1]
        self._tokens = self._tokens[: before.num_tokens]
        self._restore(before.state)
        self.format, self._before = before.format, None
        return last

    def resume(self, turns: Sequence[Turn], *, system: str | None, tokens_are_ours: bool) -> None:
        """Go on from another conversation, or from this one with another system message; read with the next message.

        Args:
            tokens_are_ours: `reply_tokens` were made with this tokenizer; else the texts of the replies are read.

        Raises:
            ConfigError: it does not fit into the context, or the format has no place for a system message. Nothing has
                changed then.
        """
        format = self.format.copy() if system == self.system else self.format.with_system(system)
        format.reset()
        tokens: list[int] = []
        for turn in turns:
            tokens += format.turn(turn.message)
            format.message_added(turn.message)
            tokens += self._reply_tokens(turn, format, tokens_are_ours)
            format.reply_added(turn.reply, tokens[-1])
        self._require_room(0, len(tokens))
        self.format, self.turns, self._tokens = format, list(turns), tokens
        self._state = self._before = None

    def _reply_tokens(self, turn: Turn, format: TurnFormat, tokens_are_ours: bool) -> Sequence[int]:
        if tokens_are_ours and turn.reply_tokens is not None:
            return turn.reply_tokens
        end = sorted(format.stop_ids)[:1] if turn.finish_reason in ("eos", "stop_token") else []
        return [*self._tokenizer.encode(turn.reply, continues=True), *end]

    def _require_room(self, used: int, num_new: int) -> None:
        free = self.context_tokens - used
        if num_new >= free:
            what = "the message has" if used else "the conversation would have"
            raise ConfigError(
                f"{what} {num_new:,} tokens, but only {max(0, free - 1):,} of the context's "
                f"{self.context_tokens:,} are left for it and a reply",
                hint="/undo takes back the last message, /reset begins a new conversation; nothing was dropped",
            )

    def _reply(self, message: str, attempt: int) -> Generator[str]:
        """Read what the state has not read yet, then make tokens until the reply ends."""
        if self._state is None:
            self._state = self._runtime.new_state(1)
        before, num_read = self._snapshot(), self._num_read()
        first = len(self._tokens)
        stream = stream_tokens(
            self._runtime,
            [self._tokens[num_read:]],
            max_new_tokens=self.settings.max_new_tokens,
            sampler=self._adjust(self.settings.sampler),
            strategy=self._strategy,
            eos_id=self._tokenizer.eos_id,
            stop_ids=tuple(self.format.stop_ids),
            seed=self.settings.seed + len(self.turns) + 1 + attempt * ATTEMPT_SEED,
            state=self._state,
        )
        texts = TextStream.create(self._tokenizer, self.settings.stops)
        shown = ""
        reason: FinishReason | None = None
        try:
            for event in stream:
                self._tokens.append(event.token)
                is_end_token = event.finish_reason in ("eos", "stop_token")
                piece = "" if is_end_token else texts.push(event.token)
                if event.finish_reason is not None and not texts.stopped:
                    piece += texts.finish()
                shown += piece
                reason = "stop_string" if texts.stopped else event.finish_reason
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
            made = tuple(self._tokens[first:])
            self.turns.append(Turn(message=message, reply=shown, finish_reason=reason, reply_tokens=made))

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
