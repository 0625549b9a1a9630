"""`mamba-slm doctor --distributed`: whether processes can train together, in two of their own or under a launcher."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from mamba_slm.cli import console
from mamba_slm.core.errors import ConfigError

if TYPE_CHECKING:
    from mamba_slm.training.distributed.finding import Finding

PROCESSES = 2
MARKS = {"ok": ("✓", "green"), "warn": ("⚠", "yellow"), "fail": ("✗", "red")}
WIDTH = 100
NAME_WIDTH = 11


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `--distributed`."""
    group = parser.add_argument_group("several processes")
    group.add_argument(
        "--distributed",
        action="store_true",
        help="examine the processes that torchrun or deepspeed started, or N of this machine",
    )
    group.add_argument("--nproc", metavar="N", type=int, help=f"processes to start (default: {PROCESSES})")
    group.add_argument("--folder", metavar="DIR", help="where runs are written (default: the home of runs)")
    group.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="what talks (default: auto)")
    group.add_argument(
        "--timeout-seconds", metavar="X", type=float, default=60.0, help="how long to wait for a process (default: 60)"
    )


def run(args: argparse.Namespace) -> int:
    """Start processes and let them do this, or be one of them; 6 when training would not work."""
    from mamba_slm.training.distributed.place import find_place, is_one_of_many

    if not is_one_of_many():
        return start(args)
    place = find_place()
    if place.size < 2:
        raise ConfigError("one process has nobody to talk to", hint="start at least two: torchrun --nproc-per-node 2")
    if not args.timeout_seconds > 0:
        raise ConfigError(f"--timeout-seconds must be > 0, got {args.timeout_seconds}")
    return examine(args)


def start(args: argparse.Namespace) -> int:
    """This very command in several processes of this machine."""
    from mamba_slm.training.distributed.launch import launch

    processes = PROCESSES if args.nproc is None else args.nproc
    if processes < 2:
        raise ConfigError(f"--nproc must be at least 2 to examine how processes talk, got {processes}")
    return launch(
        args.words,
        processes=processes,
        on_loss=f"mamba-slm doctor --distributed --nproc {processes} --debug",
        say=lambda text: None,  # what is wrong is in the findings
    )


def examine(args: argparse.Namespace) -> int:
    """One of the processes: all measure, the first one reports."""
    import warnings

    from mamba_slm.runs.layout import default_home
    from mamba_slm.training.distributed.examine import device_type_for, examine_world
    from mamba_slm.training.distributed.place import find_place
    from mamba_slm.training.distributed.world import FailedElsewhereError, join

    place = find_place()
    device_type = device_type_for(place, args.device)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="barrier.*using the device under current context")
            world = join(place, device_type=device_type, timeout_seconds=args.timeout_seconds)
            try:
                say = console.say if world.is_first else no_words
                findings = examine_world(world, folder=args.folder or default_home(), say=say)
            finally:
                world.close()
    except FailedElsewhereError:
        return 0  # the first process says what happened, and its exit code counts
    if not world.is_first:
        return 0
    works = all(finding.status != "fail" for finding in findings)
    if args.json:
        listed = [asdict(finding) for finding in findings]
        console.print_json({"ok": works, "processes": world.size, "findings": listed})
    else:
        print("\n".join(report(findings)))
    return 0 if works else 6


def no_words(text: str) -> None:
    """The first process speaks for all."""


def report(
    findings: Sequence[Finding],
    *,
    right: str = "these processes can train together",
    wrong: str = "these processes cannot train together",
) -> Iterator[str]:
    """The findings as lines, and the verdict."""
    indent = " " * (NAME_WIDTH + 3)
    for finding in findings:
        mark, colour = MARKS[finding.status]
        first, *rest = textwrap.wrap(finding.text, WIDTH - len(indent), break_long_words=False)
        yield f"{console.coloured(mark, colour, stream=sys.stdout)} {finding.name.ljust(NAME_WIDTH)} {first}"
        yield from (indent + line for line in rest)
        if finding.hint:
            yield f"{indent}mend it: {finding.hint}"
    failed = [finding.name for finding in findings if finding.status == "fail"]
    noted = [finding.name for finding in findings if finding.status == "warn"]
    yield ""
    if failed:
        yield f"{wrong}: {', '.join(failed)} must be mended first"
    else:
        yield right + (f"; look at {', '.join(noted)}" if noted else "")
