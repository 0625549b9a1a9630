"""What a line that begins with a slash does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mamba_slm.core.errors import ConfigError, MambaSlmError
from mamba_slm.core.units import three_digits
from mamba_slm.generation.conversation.reply_settings import described, with_setting
from mamba_slm.generation.conversation.saved import read_conversation, resume_from, save_conversation
from mamba_slm.generation.conversation.talk import Conversation, Turn, turns

if TYPE_CHECKING:
    from mamba_slm.generation.conversation.terminal import TerminalChat

MOST_TOKENS_SHOWN = 200


class Quit(Exception):
    """The user leaves."""


@dataclass(frozen=True)
class Command:
    """One of `COMMANDS`."""

    argument: str
    """What may or, without brackets, must follow; empty: nothing."""
    meaning: str
    run: Callable[[TerminalChat, str], None]


def show_help(chat: TerminalChat, argument: str) -> None:
    """Every command on a line of its own."""
    chat.say(USAGE)


def quit_chat(chat: TerminalChat, argument: str) -> None:
    """Leave."""
    raise Quit


def reset(chat: TerminalChat, argument: str) -> None:
    """Forget the conversation."""
    for conversation in chat.all:
        conversation.reset()
    chat.say("new conversation")


def system(chat: TerminalChat, text: str) -> None:
    """Show or replace the system message."""
    if not text:
        chat.say(f"system message: {chat.conversation.system or 'none'}")
        return
    for conversation in chat.all:
        conversation.resume(conversation.turns, system=None if text == "none" else text, tokens_are_ours=True)
    kept = len(chat.conversation.turns)
    chat.say("system message set" + (f"; the {turns(kept)} so far stay and are read again" if kept else ""))


def set_setting(chat: TerminalChat, argument: str) -> None:
    """Show all settings, or change one."""
    if not argument:
        chat.say(described(chat.conversation.settings))
        return
    name, _, value = argument.replace("=", " ", 1).partition(" ")
    if not value.strip():
        raise ConfigError(f"/set {name} needs a value", hint=f"/set {name} VALUE; /set alone lists all")
    settings = with_setting(chat.conversation.settings, name, value.strip())
    for conversation in chat.all:
        conversation.settings = settings
    chat.say(f"{name} is {value.strip()} from the next reply on")


def retry(chat: TerminalChat, argument: str) -> None:
    """Another reply to the last message."""
    if chat.conversation.settings.temperature == 0:
        chat.say("temperature 0 gives the same reply again; /set temperature 0.8 draws")
    taken = take_back(chat)
    send_instead(chat, taken, taken[0][1].message, attempt=chat.attempts + 1)


def edit(chat: TerminalChat, text: str) -> None:
    """Another message in place of the last one."""
    if not text and chat.offer is None:
        raise ConfigError("/edit needs the new message: there is no line to edit here", hint="/edit TEXT")
    taken = take_back(chat)
    if text:
        send_instead(chat, taken, text, attempt=0)
    elif chat.offer is not None:
        chat.offer(taken[0][1].message)


def undo(chat: TerminalChat, argument: str) -> None:
    """Take back the last message and its reply."""
    old = take_back(chat)[0][1]
    chat.say(f"taken back: {shortened(old.message)!r} and its reply; {turns(len(chat.conversation.turns))} left")


Taken = list[tuple[Conversation, Turn]]


def take_back(chat: TerminalChat) -> Taken:
    """Undo the last turn of every conversation that has one, the first model's first."""
    first = (chat.conversation, chat.conversation.undo())
    return [first, *((other, other.undo()) for other in chat.compared if other.turns)]


def send_instead(chat: TerminalChat, taken: Taken, text: str, *, attempt: int) -> None:
    """Send a message in place of what was taken back, which returns if the message cannot be sent."""
    before = len(chat.conversation.turns)
    try:
        chat.message(text, attempt=attempt)
    except MambaSlmError:
        if len(chat.conversation.turns) == before:
            for conversation, turn in taken:
                again = [*conversation.turns, turn]
                conversation.resume(again, system=conversation.system, tokens_are_ours=True)
        raise


def history(chat: TerminalChat, argument: str) -> None:
    """The conversation so far."""
    lines = [] if chat.conversation.system is None else [f"system: {chat.conversation.system}"]
    for turn in chat.conversation.turns:
        lines += [f"> {turn.message}" if turn.message else "(went on)", turn.reply]
    chat.say("\n".join(lines) or "nothing was said so far")


def save(chat: TerminalChat, name: str) -> None:
    """Write the conversation to a file."""
    save_conversation(chat.conversation, Path(name).expanduser())
    chat.say(f"saved {turns(len(chat.conversation.turns))} in {name}")


def load(chat: TerminalChat, name: str) -> None:
    """Go on with a conversation from a file."""
    saved = read_conversation(Path(name).expanduser())
    chat.say(f"{name}: {resume_from(saved, chat.conversation)}")
    for conversation in chat.compared:
        resume_from(saved, conversation)


def compare(chat: TerminalChat, name: str) -> None:
    """Give every message to a further model, too, beginning with the last one."""
    if name in ("", "off"):
        chat.compared.clear()
        chat.say("one model answers from now on")
        return
    if chat.open_model is None:
        raise ConfigError("no further model can be opened here", hint="start the chat with the model's folder")
    other = chat.open_model(name)
    first = chat.conversation
    other.settings = first.settings
    other.resume(
        first.turns[:-1],
        system=first.system,
        tokens_are_ours=first.tokenizer_fingerprint == other.tokenizer_fingerprint is not None,
    )
    chat.compared.append(other)
    chat.say(f"{other.name} answers, too; /compare off ends it")
    if first.turns:
        chat.say(f"── {other.name}, to the last message")
        chat.reply(other, first.turns[-1].message, 0)


def tokens(chat: TerminalChat, text: str) -> None:
    """The tokens of a text, of the last reply without one."""
    if not text:
        if not chat.conversation.turns:
            raise ConfigError("no reply so far whose tokens could be shown", hint="/tokens TEXT")
        text = chat.conversation.turns[-1].reply
    found = chat.conversation.tokens_of(text)
    pieces = " ".join(f"{id}:{data.decode(errors='replace')!r}" for id, data in found[:MOST_TOKENS_SHOWN])
    more = f" … and {len(found) - MOST_TOKENS_SHOWN:,} more" if len(found) > MOST_TOKENS_SHOWN else ""
    chat.say(f"{len(found):,} tokens of {len(text.encode()):,} bytes: {pieces}{more}")


def stats(chat: TerminalChat, argument: str) -> None:
    """Work so far."""
    for conversation in chat.all:
        if chat.compared:
            chat.say(f"── {conversation.name}")
        chat.say(stats_of(conversation))


def stats_of(conversation: Conversation) -> str:
    """Turns, context and speeds of one conversation."""
    timing = conversation.timing
    return (
        f"{turns(len(conversation.turns))}, {context_line(conversation)}\n"
        f"read {timing.prefill_tokens:,} tokens at {three_digits(timing.prefill_tokens_per_second)} tok/s, "
        f"made {timing.decode_tokens:,} at {three_digits(timing.decode_tokens_per_second)} tok/s"
    )


def context_line(conversation: Conversation) -> str:
    """How much of the context is used and left."""
    used, total = conversation.used_tokens, conversation.context_tokens
    if total is None:
        return f"{used:,} context tokens used" if used else ""
    return f"{used:,} of {total:,} context tokens used, {max(0, total - used):,} left"


def shortened(text: str) -> str:
    """The beginning of a text."""
    return text if len(text) <= 60 else text[:57] + "…"


COMMANDS = {
    "/help": Command("", "this list", show_help),
    "/retry": Command("", "another reply to the last message", retry),
    "/edit": Command("[TEXT]", "another message in place of the last one; alone: put it into the line", edit),
    "/undo": Command("", "take back the last message and its reply", undo),
    "/history": Command("", "the conversation so far", history),
    "/system": Command("[TEXT]", "replace the system message, or show it; none removes it", system),
    "/set": Command("[NAME VALUE]", "change a setting such as temperature, or list all", set_setting),
    "/compare": Command("[MODEL]", "let a further model answer, too; off ends it", compare),
    "/tokens": Command("[TEXT]", "tokens of the text, or of the last reply", tokens),
    "/stats": Command("", "context used and left, tokens read and made, speed", stats),
    "/save": Command("FILE", "write the conversation to a file", save),
    "/load": Command("FILE", "go on with the conversation in a file", load),
    "/reset": Command("", "forget the conversation and begin anew", reset),
    "/quit": Command("", "leave; so do end of input and Ctrl-C at the prompt", quit_chat),
}

USAGE = "\n".join(
    [f"{f'{name} {command.argument}':<20} {command.meaning}" for name, command in COMMANDS.items()]
    + ['"""                  begins and ends a message of several lines; so does a backslash at a line\'s end']
)
"""What `/help` says."""
