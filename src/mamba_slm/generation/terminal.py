"""The chat of a plain terminal: lines in, replies out, four commands. Works with pipes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.core.units import three_digits
from mamba_slm.generation.chat import ChatSession

COMMANDS = {
    "/help": "this list",
    "/reset": "forget the conversation and begin anew",
    "/stats": "context used and left, tokens read and made, speed",
    "/quit": "leave; so do end of input and Ctrl-C at the prompt",
}

NOTES = {
    "length": "stopped at --max-new-tokens; an empty line goes on",
    "context": "the model's context is full",
}
"""What is worth saying about how a reply ended."""


def run_chat(
    session: ChatSession,
    lines: Iterable[str],
    *,
    write: Callable[[str], None],
    say: Callable[[str], None],
    stop_at_errors: bool,
) -> None:
    """Answer line after line until `/quit` or the end of the input.

    A line that begins with / is a command; // stands for a line that begins with one slash. Ctrl-C during a reply ends
    the reply; the conversation goes on.

    Args:
        lines: what the user types, without line ends.
        write: for replies; each reply ends with a line break.
        say: for everything else.
        stop_at_errors: raise what is wrong with a line (no one watches a pipe) instead of saying it and going on.

    Raises:
        ConfigError: with `stop_at_errors`, an unknown command or a message that does not fit into the context.
    """
    for line in lines:
        try:
            if line.startswith("/") and not line.startswith("//"):
                command = line.strip()
                if command == "/quit":
                    return
                run_command(session, command, say)
            else:
                reply(session, line.removeprefix("/") if line.startswith("//") else line, write=write, say=say)
        except ConfigError as error:
            if stop_at_errors:
                raise
            say(f"{error.message}" + (f"\n{error.hint}" if error.hint else ""))


def run_command(session: ChatSession, command: str, say: Callable[[str], None]) -> None:
    """Run one of `COMMANDS` except /quit.

    Raises:
        UnknownNameError: there is no such command; names the nearest.
    """
    if command not in COMMANDS:
        raise UnknownNameError("command", command, COMMANDS, hint="/help lists them; begin with // to send a slash")
    if command == "/help":
        say("\n".join(f"{name:<7} {meaning}" for name, meaning in COMMANDS.items()))
    elif command == "/reset":
        session.reset()
        say("new conversation")
    elif command == "/stats":
        say(stats(session))


def reply(session: ChatSession, text: str, *, write: Callable[[str], None], say: Callable[[str], None]) -> None:
    """Write the reply to one message, then how full the context is."""
    pieces = session.respond(text)
    last = ""
    with contextlib.closing(pieces):
        try:
            for piece in pieces:
                write(piece)
                last = piece or last
        except KeyboardInterrupt:
            say("\n(interrupted; the conversation goes on)")
    if not last.endswith("\n"):
        write("\n")
    note = NOTES.get(session.finish_reason or "")
    if session.finish_reason == "eos" and session.format.ends_with_eos:
        note = "the document ended here; the next line begins a new one"
    say(f"[{context_line(session)}{'; ' + note if note else ''}]")


def context_line(session: ChatSession) -> str:
    """How much of the context is used and left."""
    used, total = session.used_tokens, session.context_tokens
    return f"{used:,} of {total:,} context tokens used, {max(0, total - used):,} left"


def stats(session: ChatSession) -> str:
    """What `/stats` says."""
    timing = session.timing
    return (
        f"{session.num_turns} turn{'' if session.num_turns == 1 else 's'}, {context_line(session)}\n"
        f"read {timing.prefill_tokens:,} tokens at {three_digits(timing.prefill_tokens_per_second)} tok/s, "
        f"made {timing.decode_tokens:,} at {three_digits(timing.decode_tokens_per_second)} tok/s"
    )
