"""`mamba-slm doctor`: what this machine has, what is missing, what that costs here, and the command that mends it."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from mamba_slm.cli import console, doctor_distributed, doctor_plugins, doctor_train
from mamba_slm.cli.examination.check import MARKS, SECTIONS, Check
from mamba_slm.cli.examination.examine import examine

NAME_WIDTH = 14
INDENT = 4 + NAME_WIDTH + 1
MAX_WIDTH = 100

EPILOG = """\
Every absence comes with its cost on this machine: a measured figure, "nothing
here" and why, or "not measured" and why. Speeds are ratios of runs side by side.

--measure none      nothing is timed; about a second
--measure quick     kernels, a training step by precision and threads; ten seconds
--measure thorough  also how threads wait, and torch.compile; about two minutes

Exit code 3 when something that is needed is missing; a warning (⚠) never fails.

--json prints {"ok", "summary", "checks"}. A check has section (machine, python,
settings, kernels, compilers, extras, plugins or speed), name, status (ok, note or
missing), text, cost and hint ("" where there is none), measured (numbers by
name, units in the names; {} where nothing was measured) and about_speed.

--distributed examines processes instead: right sums, latency, bandwidth, slow
links, barrier, clocks, versions, and whether all see the disk. Exit code 6 when
they cannot train together; --json prints {"ok", "processes", "findings"}.

--train examines a run: what would follow `mamba-slm train` follows it. The
model is built and takes one step: weights against their rules, decay groups,
dtypes, sharding, kernels, first loss near ln(vocabulary), a gradient and an
update for every parameter, memory. Exit code 6 when something is wrong; --json
prints {"ok", "findings"}.

--plugins examines plugins: whether each loads, and whether a sublayer gives the
same outputs and gradients however it is read. Exit code 6 when it does not, 3
when one does not load; --json prints {"ok", "plugins"}.

examples:
  mamba-slm doctor
  mamba-slm doctor --no-measure
  mamba-slm doctor --json --no-measure
  torchrun --nproc-per-node 8 -m mamba_slm.cli.main doctor --distributed
  mamba-slm doctor --train nano --batch-tokens 8192
  mamba-slm doctor --plugins
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm doctor`."""
    parser.epilog = EPILOG
    parser.add_argument("--json", action="store_true", help="one JSON document: ok, summary, checks")
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument(
        "--measure", choices=("none", "quick", "thorough"), default="quick", help="what to time (default: quick)"
    )
    effort.add_argument("--no-measure", action="store_true", help="the same as --measure none")
    doctor_distributed.add_arguments(parser)
    doctor_train.add_arguments(parser)
    doctor_plugins.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.distributed:
        return doctor_distributed.run(args)
    if args.train is not None:
        return doctor_train.run(args)
    if args.plugins:
        return doctor_plugins.run(args)
    checks = examine("none" if args.no_measure else args.measure, say=console.say)
    complete = all(check.status != "missing" for check in checks)
    if args.json:
        listed = [asdict(check) for check in checks]
        console.print_json({"ok": complete, "summary": summary(checks), "checks": listed})
    else:
        width = min(MAX_WIDTH, shutil.get_terminal_size((80, 24)).columns) if sys.stdout.isatty() else 80
        print("\n".join(report(checks, width)))
    return 0 if complete else 3


def report(checks: Sequence[Check], width: int) -> Iterator[str]:
    """The examination as lines: a heading for each section, then its checks, then the summary."""
    for section in SECTIONS:
        own = [check for check in checks if check.section == section]
        if own:
            yield console.coloured(section, "bold", stream=sys.stdout)
        for group in alike(own):
            yield from lines_of(group, width)
    yield ""
    yield from textwrap.wrap(summary(checks), width, subsequent_indent="  ")


def alike(checks: Sequence[Check]) -> list[list[Check]]:
    """Neighbours that say the same and need no mending stand on one line."""
    groups: list[list[Check]] = []
    for check in checks:
        last = groups[-1][-1] if groups else None
        same = last is not None and not check.hint and (last.status, last.text, last.cost, last.hint) == (
            check.status, check.text, check.cost, check.hint,
        )  # fmt: skip
        if same:
            groups[-1].append(check)
        else:
            groups.append([check])
    return groups


def lines_of(group: Sequence[Check], width: int) -> Iterator[str]:
    """Mark, name and text, wrapped; then the cost and the command, which is never cut."""
    check = group[0]
    name, text = check.name, check.text
    if len(group) > 1:
        name, text = text, ", ".join(each.name for each in group)
    mark, colour = MARKS[check.status]
    first, *rest = textwrap.wrap(text, width - INDENT, break_long_words=False) or [""]
    label = name.ljust(NAME_WIDTH)
    if len(label) > NAME_WIDTH:  # a long name has a line of its own
        first, rest = "", [first, *rest]
    yield f"  {console.coloured(mark, colour, stream=sys.stdout)} {label} {first}".rstrip()
    for line in rest:
        yield " " * INDENT + line
    if check.cost:
        yield from textwrap.wrap(
            f"cost: {check.cost}", width, initial_indent=" " * INDENT, subsequent_indent=" " * (INDENT + 2)
        )
    if check.hint:
        verb = "get it" if check.status == "ok" else "mend it"
        yield " " * INDENT + f"{verb}: {check.hint}"


def summary(checks: Sequence[Check]) -> str:
    """The last line: ready or not, what would make it faster, and what else was noted."""
    missing = [check for check in checks if check.status == "missing"]
    if missing:
        return f"not ready: {listed(missing)} must be mended first"
    notes = [check for check in checks if check.status == "note"]
    faster = [check for check in notes if check.about_speed]
    other = [check for check in notes if not check.about_speed]
    text = "ready" if notes else "ready; nothing is missing"
    if faster:
        text += f"; {counted(len(faster), 'thing')} would make it faster: {listed(faster)}"
    if other:
        text += f"; {counted(len(other), 'thing')} can be added: {listed(other)}"
    return text


def listed(checks: Sequence[Check]) -> str:
    """Names with their sections, where a name alone would not say enough: `threads (settings)`."""
    return ", ".join(f"{check.name} ({check.section})" for check in checks)


def counted(number: int, noun: str) -> str:
    """`1 thing`, `2 things`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
