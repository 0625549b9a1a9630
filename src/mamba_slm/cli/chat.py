"""`mamba-slm chat`: talk with a model in the terminal, or through a pipe."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from mamba_slm.cli import console
from mamba_slm.cli.generate import add_sampling_flags, runtime_settings, sampler_of, seed_of

EPILOG = """\
MODEL is a run directory, one of its checkpoints, a model folder, or a folder of `mamba-slm export onnx`, which ONNX
Runtime runs. A model with a chat template gets turns; a model that was trained on plain text continues your lines as
one document. Earlier turns are never read again, and nothing is dropped: when the context is full, the chat says so. In
the chat: /help /reset /stats /quit.

examples:
  mamba-slm chat runs/quickstart
  mamba-slm chat runs/quickstart --temperature 0 --max-new-tokens 60
  mamba-slm chat quickstart-onnx --runtime onnx
  printf 'import os\\n/stats\\n' | mamba-slm chat runs/quickstart --seed 7
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm chat`."""
    parser.epilog = EPILOG
    parser.add_argument(
        "model", metavar="MODEL", help="run directory, checkpoint, model folder or exported ONNX folder"
    )
    parser.add_argument("--system", metavar="TEXT", help="system message; needs a model with a chat template")
    add_sampling_flags(parser, max_new_tokens=256)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from mamba_slm.generation.chat import ChatSession, ChatSettings
    from mamba_slm.generation.loading import load
    from mamba_slm.generation.terminal import run_chat
    from mamba_slm.generation.turns import turn_format

    sampler, seed = sampler_of(args), seed_of(args)
    settings = ChatSettings(sampler=sampler, max_new_tokens=args.max_new_tokens, seed=seed, stops=tuple(args.stop))
    loaded = load(args.model, runtime=args.runtime, settings=runtime_settings(args))
    turns = turn_format(loaded.folder, loaded.tokenizer, system=args.system)
    session = ChatSession(loaded.runtime, loaded.tokenizer, turns, settings)
    interactive = sys.stdin.isatty()
    console.say(f"{loaded.folder}, {loaded.runtime.description} ({loaded.reason}), seed {seed}")
    console.say(turns.reason)
    console.say(f"context {session.context_tokens:,} tokens; /help lists the commands")
    run_chat(
        session,
        typed_lines() if interactive else piped_lines(),
        write=write_now,
        say=console.say,
        stop_at_errors=not interactive,
    )
    return 0


def typed_lines() -> Iterator[str]:
    """Lines from a terminal, with editing and history where the platform has readline; ends at Ctrl-D or Ctrl-C."""
    import contextlib

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (importing it gives `input` line editing)
    while True:
        try:
            yield input("> ")
        except (EOFError, KeyboardInterrupt):
            console.say()
            return


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
