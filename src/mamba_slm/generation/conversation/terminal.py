"""The chat of a plain terminal: messages in, replies out, commands that begin with a slash. Works with pipes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

from mamba_slm.core.errors import ConfigError, MambaSlmError, UnknownNameError
from mamba_slm.core.units import three_digits
from mamba_slm.generation.conversation.commands import COMMANDS, Quit, context_line
from mamba_slm.generation.conversation.lines import messages
from mamba_slm.generation.conversation.talk import Conversation
from mamba_slm.generation.generate import Timing


class TerminalChat:
    """One conversation, or the same messages to several models.

    Args:
        conversation: with the model that was named first.
        write: for replies; each reply ends with a line break.
        say: for everything else.
        open_model: opens a further model by its path for `/compare`; None where that is not possible.
        offer: puts a text into the next input line to be edited; None where there is no such line.
    """

    def __init__(
        self,
        conversation: Conversation,
        *,
        write: Callable[[str], None],
        say: Callable[[str], None],
        open_model: Callable[[str], Conversation] | None = None,
        offer: Callable[[str], None] | None = None,
    ):
        self.conversation, self.write, self.say = conversation, write, say
        self.open_model, self.offer = open_model, offer
        self.compared: list[Conversation] = []
        """Further models that get the same messages."""
        self.attempts = 0
        """How often the last message was tried again."""

    @property
    def all(self) -> list[Conversation]:
        """Every conversation, the first model's first."""
        return [self.conversation, *self.compared]

    def run(self, lines: Iterable[str], *, stop_at_errors: bool) -> None:
        """Answer message after message until `/quit` or the end of the input.

        A line that begins with / is a command; // stands for a line that begins with one slash. Ctrl-C during a reply
        ends the reply; the conversation goes on.

        Args:
            lines: what the user types, without line ends.
            stop_at_errors: raise what is wrong with a line (no one watches a pipe) instead of saying it and going on.

        Raises:
            MambaSlmError: with `stop_at_errors`, for example an unknown command or a message that does not fit.
        """
        for text in messages(lines):
            try:
                if text.startswith("/") and not text.startswith("//"):
                    self.command(text)
                else:
                    self.message(text.removeprefix("/") if text.startswith("//") else text)
            except Quit:
                return
            except MambaSlmError as error:
                if stop_at_errors:
                    raise
                self.say(f"{error.message}" + (f"\n{error.hint}" if error.hint else ""))

    def command(self, text: str) -> None:
        """Run one of `COMMANDS`.

        Raises:
            UnknownNameError: there is no such command; names the nearest.
            ConfigError, DataError: it cannot be done.
        """
        name, _, argument = text.strip().partition(" ")
        if name not in COMMANDS:
            raise UnknownNameError("command", name, COMMANDS, hint="/help lists them; begin with // to send a slash")
        command = COMMANDS[name]
        argument = argument.strip()
        if argument and not command.argument:
            raise ConfigError(f"{name} takes nothing after it, got {argument!r}", hint=f"{name} alone")
        if not argument and command.argument and not command.argument.startswith("["):
            raise ConfigError(f"{name} needs {command.argument}", hint=f"{name} {command.argument}")
        command.run(self, argument)

    def message(self, text: str, *, attempt: int = 0) -> None:
        """Send one message to every model."""
        self.attempts = attempt
        for conversation in self.all:
            if self.compared:
                self.say(f"── {conversation.name}")
            self.reply(conversation, text, attempt)

    def reply(self, conversation: Conversation, text: str, attempt: int) -> None:
        """Write the reply to one message, then how fast it came and how full the context is."""
        before = so_far(conversation.timing)
        pieces = conversation.respond(text, attempt=attempt)
        last = ""
        with contextlib.closing(pieces):
            try:
                for piece in pieces:
                    self.write(piece)
                    last = piece or last
            except KeyboardInterrupt:
                self.say("\n(interrupted; the conversation goes on)")
        if not last.endswith("\n"):
            self.write("\n")
        notes = [context_line(conversation), speed_since(before, conversation.timing), conversation.ended]
        self.say(f"[{'; '.join(note for note in notes if note)}]")


def so_far(timing: Timing) -> Timing:
    """The work so far, to be subtracted later."""
    copied = Timing()
    copied.add(timing)
    return copied


def speed_since(before: Timing, now: Timing) -> str:
    """Speed of the tokens made since `before`; nothing where too few were made."""
    tokens, seconds = now.decode_tokens - before.decode_tokens, now.decode_seconds - before.decode_seconds
    return f"{three_digits(tokens / seconds)} tok/s" if tokens > 0 and seconds > 0 else ""
