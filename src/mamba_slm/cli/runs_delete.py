"""`mamba-slm runs delete`: take runs off the disk, once they have been shown."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING

from mamba_slm.cli import console
from mamba_slm.core.errors import MambaSlmError, UsageError

if TYPE_CHECKING:
    from mamba_slm.runs.deleting import Deletion

EPILOG = """\
Without --yes nothing is deleted: what would go is shown. A run that somebody owns is refused, and so is one that
another run of the same home was made from, unless --anyway is given: an adapter cannot be used without its base.

examples:
  mamba-slm runs delete 20260401-nano
  mamba-slm runs delete 20260401-nano 20260401-nano-2 --yes
  mamba-slm runs delete --empty --yes
"""


def configure_delete(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm runs delete`."""
    parser.epilog = EPILOG
    parser.add_argument("run", metavar="RUN", nargs="*", help="folders or names of runs")
    parser.add_argument("--empty", action="store_true", help="all runs of the home that ended before their first step")
    parser.add_argument("--yes", action="store_true", help="delete what is shown")
    parser.add_argument("--anyway", action="store_true", help="also what other runs were made from")


def delete(args: argparse.Namespace) -> int:
    """`runs delete`."""
    from mamba_slm.core.units import format_bytes
    from mamba_slm.runs.deleting import delete_run

    found = chosen(args)
    if args.yes:
        for gone, each in enumerate(found):
            try:
                delete_run(each.run)
            except (MambaSlmError, OSError):
                if gone:
                    console.say("deleted before this: " + ", ".join(str(one.run.path) for one in found[:gone]))
                raise
    if args.json:
        console.print_json({"deleted": args.yes, "runs": [as_json(each) for each in found]})
        return 0
    if not found:
        console.say("no run ended before its first step; there is nothing to delete")
        return 0
    header = ["run", "checkpoints", "size"]
    rows = [[str(each.run.path), f"{each.checkpoints:,}", format_bytes(each.size_bytes)] for each in found]
    print(console.table(header, rows, right=header[1:]))
    if args.yes:
        console.say(f"deleted, {format_bytes(sum(each.size_bytes for each in found))} are free again")
    else:
        console.say("nothing was deleted; add --yes to delete what is shown")
    return 0


def chosen(args: argparse.Namespace) -> list[Deletion]:
    """What the arguments name, each once.

    Raises:
        UsageError: nothing is named, one is a link, or a run is needed by another that stays.
        RunLockedError: somebody owns one of them.
    """
    from mamba_slm.runs.deleting import deletion_of, refuse, took_no_step
    from mamba_slm.runs.layout import find_run, list_runs

    if args.empty == bool(args.run):
        raise UsageError("which runs? name them, or give --empty", hint="mamba-slm runs list")
    all_runs = list_runs(args.home)
    runs = [run for run in all_runs if took_no_step(run)] if args.empty else [
        find_run(name, args.home) for name in args.run
    ]  # fmt: skip
    runs = list({run.path.resolve(): run for run in runs}.values())
    for run in runs:
        refuse(run)
    going = {run.path.resolve() for run in runs}
    staying = [run for run in all_runs if run.path.resolve() not in going]
    found = [deletion_of(run, staying) for run in runs]
    needed = next((each for each in found if each.needed_by), None)
    if needed is not None and not args.anyway:
        both = shlex.join([str(needed.run.path), *needed.needed_by])
        raise UsageError(
            f"made from {needed.run.path}: {', '.join(needed.needed_by)}",
            hint=f"add --anyway, or delete all of them: mamba-slm runs delete {both}",
        )
    return found


def as_json(each: Deletion) -> dict:
    """For programs."""
    return {
        "run": str(each.run.path),
        "checkpoints": each.checkpoints,
        "size_bytes": each.size_bytes,
        "needed_by": list(each.needed_by),
    }
