"""`mamba-slm chat`: talk with a model in the terminal, or through a pipe."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamba_slm.cli import console
from mamba_slm.cli.decoding_flags import (
    add_sampling_flags,
    adjusted,
    constraint_of,
    refuse_local_flags,
    seed_of,
    strategy_of,
)
from mamba_slm.cli.reuse_flags import prompt_cache_for
from mamba_slm.cli.runtime_flags import runtime_settings
from mamba_slm.core.errors import UsageError

if TYPE_CHECKING:
    from mamba_slm.generation.conversation.reply_settings import ReplySettings
    from mamba_slm.generation.conversation.talk import Conversation

EPILOG = """\
MODEL is a run directory, one of its checkpoints, a model folder, or a folder of `mamba-slm export onnx`, which ONNX
Runtime runs; with --url it is the name of a model there. A model with a chat template gets turns; a model that was
trained on plain text continues your lines as one document. Earlier turns are never read again, and nothing is dropped:
when the context is full, the chat says so. In the chat: /help lists the commands, such as /retry /edit /undo /set
/compare /save /load /tokens /stats /quit; a line of three double quotes begins and ends a message of several lines.

examples:
  mamba-slm chat runs/quickstart
  mamba-slm chat runs/quickstart --temperature 0 --max-new-tokens 60
  mamba-slm chat quickstart-onnx --runtime onnx
  printf 'import os\\n/retry\\n/stats\\n' | mamba-slm chat runs/quickstart --seed 7
  mamba-slm chat runs/quickstart --compare quickstart-onnx --save talk.json
  mamba-slm chat --url http://127.0.0.1:8000/v1
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm chat`."""
    parser.epilog = EPILOG
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        help="run directory, checkpoint, model folder or exported ONNX folder; with --url a name, default its first",
    )
    parser.add_argument("--system", metavar="TEXT", help="system message; needs a model with a chat template")
    parser.add_argument("--compare", metavar="MODEL", help="a further model that answers every message, too")
    parser.add_argument("--load", metavar="FILE", help="go on with the conversation that --save or /save wrote")
    parser.add_argument("--save", metavar="FILE", help="write the conversation there when the chat ends")
    parser.add_argument(
        "--no-history", action="store_true", help="do not keep what was typed for the next chat's arrow keys"
    )
    server = parser.add_argument_group("server")
    server.add_argument("--url", metavar="URL", help="talk to a server with OpenAI's chat API, up to and with /v1")
    server.add_argument(
        "--api-key-env", metavar="NAME", help="environment variable with the server's key; without it none is sent"
    )
    add_sampling_flags(parser, max_new_tokens=256)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from mamba_slm.generation.conversation.saved import read_conversation, resume_from, save_conversation
    from mamba_slm.generation.conversation.terminal import TerminalChat

    interactive = sys.stdin.isatty()
    saved = read_conversation(Path(args.load)) if args.load else None
    settings = settings_of(args)
    conversation = open_server(args, settings) if args.url else open_model(args, args.model, settings)
    if saved is not None:
        console.say(f"{args.load}: {resume_from(saved, conversation)}")
    offered: list[str] = []
    chat = TerminalChat(
        conversation,
        write=write_now,
        say=console.say,
        open_model=lambda path: open_model(args, path, settings),
        offer=offered.append if interactive else None,
    )
    if args.compare:
        chat.command(f"/compare {args.compare}")
    console.say("/help lists the commands")
    try:
        lines = typed_lines(offered, keep_history=not args.no_history) if interactive else piped_lines()
        chat.run(lines, stop_at_errors=not interactive)
    finally:
        if args.save:
            save_conversation(conversation, Path(args.save))
            console.say(f"saved in {args.save}; go on with: --load {args.save}")
    return 0


def settings_of(args: argparse.Namespace) -> ReplySettings:
    """How the flags want replies to be made."""
    from mamba_slm.generation.conversation.reply_settings import ReplySettings, settable

    flags = {name: value for name, value in vars(args).items() if name in settable()}
    return ReplySettings(**{**flags, "seed": seed_of(args), "stops": tuple(args.stop)})


def open_model(args: argparse.Namespace, path: str | None, settings: ReplySettings) -> Conversation:
    """A conversation with a model that runs here.

    Raises:
        UsageError: no model was named.
    """
    from mamba_slm.generation.conversation.session import ChatSession
    from mamba_slm.generation.conversation.turns import turn_format
    from mamba_slm.generation.loading import load

    if path is None:
        raise UsageError(
            "which model? name its folder, or a server with --url",
            hint="mamba-slm chat runs/quickstart; mamba-slm runs list",
        )
    loaded = load(path, runtime=args.runtime, settings=runtime_settings(args))
    prompt_cache_for(args, loaded)
    turns = turn_format(loaded.folder, loaded.tokenizer, system=args.system)
    constraint = constraint_of(args, loaded.tokenizer, (loaded.tokenizer.eos_id, *turns.stop_ids))
    session = ChatSession(
        loaded.runtime,
        loaded.tokenizer,
        turns,
        settings,
        name=str(path),
        strategy=strategy_of(args),
        adjust=lambda sampler: adjusted(sampler, args, constraint),
    )
    console.say(f"{loaded.folder}, {loaded.runtime.description} ({loaded.reason}), seed {settings.seed}")
    console.say(turns.reason)
    console.say(f"context {session.context_tokens:,} tokens")
    return session


def open_server(args: argparse.Namespace, settings: ReplySettings) -> Conversation:
    """A conversation with a model behind a server.

    Raises:
        UsageError: the variable with the key is not set.
    """
    from mamba_slm.generation.conversation.server import ServerChat

    refuse_local_flags(args)
    key = None
    if args.api_key_env is not None and not (key := os.environ.get(args.api_key_env)):
        raise UsageError(
            f"the environment variable {args.api_key_env} is not set", hint="export it, or leave the flag out"
        )
    chat = ServerChat(args.url, model=args.model, settings=settings, system=args.system, api_key=key)
    context = "unknown to us" if chat.context_tokens is None else f"{chat.context_tokens:,} tokens"
    console.say(f"{chat.name} at {chat.url}, context {context}, seed {settings.seed}")
    return chat


def history_file() -> Path:
    """Where lines typed in earlier chats are kept."""
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(home) / "mamba-slm" / "chat-history"


def typed_lines(offered: list[str], *, keep_history: bool) -> Iterator[str]:
    """Lines from a terminal, with editing and history where the platform has readline; ends at Ctrl-D or Ctrl-C.

    Args:
        offered: texts to put into the next line, taken from the end.
    """
    try:
        import readline
    except ImportError:  # not every platform has it
        readline = None
    file = history_file()
    if readline is not None:
        readline.set_pre_input_hook(
            lambda: (readline.insert_text(offered.pop()), readline.redisplay()) if offered else None
        )
        with contextlib.suppress(OSError):  # none so far
            if keep_history:
                readline.read_history_file(file)
    try:
        while True:
            try:
                yield input("> ")
            except (EOFError, KeyboardInterrupt):
                console.say()
                return
    finally:
        if readline is not None:
            readline.set_pre_input_hook(None)
            if keep_history:
                write_history(readline, file)


def write_history(readline: Any, file: Path) -> None:
    """Keep what was typed, for this user alone."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        readline.set_history_length(1000)
        readline.write_history_file(file)
    except OSError as error:
        console.say(f"what was typed is not kept: {file}: {error.strerror}")


def piped_lines() -> Iterator[str]:
    """Lines of stdin without their ends.

    Raises:
        DataError: stdin is not UTF-8.
    """
    from mamba_slm.core.errors import DataError

    for number, line in enumerate(sys.stdin.buffer, start=1):
        try:
            yield line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(
                f"line {number} of stdin is not UTF-8: {error}", hint="convert it with iconv -t UTF-8"
            ) from error


def write_now(text: str) -> None:
    """Write to stdout at once."""
    sys.stdout.write(text)
    sys.stdout.flush()
