"""`mamba-slm runs`: list, show, compare, stop, resume and delete runs. Reads run directories; imports no torch."""

from __future__ import annotations

import argparse
import os
import shlex
from dataclasses import asdict
from typing import Any

from mamba_slm.cli.console import print_json, say, table
from mamba_slm.cli.runs_delete import configure_delete, delete

EPILOG = """\
examples:
  mamba-slm runs list
  mamba-slm runs show quickstart --json
  mamba-slm runs compare runs/20260401-nano runs/20260401-nano-2
  mamba-slm runs stop runs/20260401-nano --wait 2m
  mamba-slm runs resume runs/20260401-nano
  mamba-slm runs delete --empty

RUN is a run's folder, or its name in the home of runs ($MAMBA_SLM_HOME, else ./runs).
"""
CURVE_ROWS = 200
UNKNOWN = "–"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands of `mamba-slm runs`."""
    parser.description = "Runs are folders; these commands read them, and talk to the process that owns one."
    parser.epilog = EPILOG
    commands = parser.add_subparsers()
    about = {
        "list": "the runs in a home, one line each",
        "show": "state, progress, results and files of one run",
        "compare": "runs side by side: results, and the settings that differ",
        "stop": "ask the owner of a run to finish its step, save and end, and wait for it",
        "resume": "continue an interrupted run with its recorded command",
        "delete": "take runs off the disk, once they have been shown",
    }
    for name, help_line in about.items():
        command = commands.add_parser(name, help=help_line, description=f"{help_line[0].upper()}{help_line[1:]}.")
        command.add_argument("--home", metavar="DIR", help="home of runs (default: $MAMBA_SLM_HOME, else ./runs)")
        if name == "delete":
            configure_delete(command)
        elif name == "compare":
            command.add_argument("run", metavar="RUN", nargs="+", help="two or more runs")
        elif name != "list":
            command.add_argument("run", metavar="RUN", help="folder or name of a run")
        if name != "resume":
            command.add_argument("--json", action="store_true", help="one JSON document on stdout")
        if name == "stop":
            command.add_argument(
                "--wait",
                metavar="TIME",
                default="5m",
                help="how long to wait for the end; 0 to return at once (default: 5m)",
            )
            command.add_argument(
                "--again", action="store_true", help="ask an owner that was asked before: it then ends without saving"
            )
        if name == "resume":
            command.add_argument(
                "--print", dest="only_print", action="store_true", help="print the command instead of running it"
            )


def run(args: argparse.Namespace) -> int:
    """Run the subcommand."""
    commands = {"list": list_command, "show": show, "compare": compare, "stop": stop, "resume": resume}
    commands["delete"] = delete
    return commands[args.subcommand](args)


def list_command(args: argparse.Namespace) -> int:
    """`runs list`."""
    from mamba_slm.core.units import format_count, format_seconds
    from mamba_slm.runs.deleting import took_no_step
    from mamba_slm.runs.layout import default_home, list_runs
    from mamba_slm.runs.summary import summarize

    directories = list_runs(args.home)
    summaries = [summarize(directory) for directory in directories]
    if args.json:
        print_json([asdict(summary) for summary in summaries])
        return 0
    if not summaries:
        say(f"no runs in {args.home or default_home()}; start one: mamba-slm quickstart")
        return 0
    header = ["run", "kind", "state", "step", "tokens", "time", "loss", "validation", "bits/byte"]
    rows = [
        [
            each.name, each.kind or UNKNOWN, each.state, written(each.step, "{:,}".format),
            written(each.tokens, format_count), written(each.seconds, format_seconds),
            written(each.loss, "{:.3f}".format), written(each.validation_loss, "{:.3f}".format),
            written(each.bits_per_byte, "{:.3f}".format),
        ]
        for each in summaries
    ]  # fmt: skip
    print(table(header, rows, right=header[3:]))
    never_began = sum(took_no_step(directory) for directory in directories)
    if never_began:
        say(f"{never_began} ended before the first step; see what deleting takes: mamba-slm runs delete --empty")
    return 0


def show(args: argparse.Namespace) -> int:
    """`runs show`."""
    from mamba_slm.runs.evidence import read_evidence
    from mamba_slm.runs.layout import find_run
    from mamba_slm.runs.lock import live_owner, owner_summary
    from mamba_slm.runs.metrics import downsample
    from mamba_slm.runs.summary import summarize

    directory = find_run(args.run, args.home)
    summary, evidence, owner = summarize(directory), read_evidence(directory), live_owner(directory)
    if args.json:
        print_json(
            {
                **asdict(summary),
                "owner": owner_summary(owner) if owner else None,
                "command": list(evidence.record.command) if evidence.record else None,
                "curve": [
                    {"step": row["step"], "loss": row["loss"]}
                    for row in downsample(evidence.train, key="loss", max_rows=CURVE_ROWS)
                ],
                "validation": [
                    {"step": row["step"], "loss": row.get("loss"), "bits_per_byte": row.get("bits_per_byte")}
                    for row in evidence.validation
                ],
                "evaluation": [
                    {"name": row["name"], "bits_per_byte": row["bits_per_byte"]} for row in evidence.evaluation
                ],
                "checkpoints": [folder.name for folder in directory.checkpoints()],
                "problems": list(evidence.problems),
            }
        )
        return 0
    message = f": {summary.message}" if summary.message else ""
    lines = [["state", summary.state + message]]
    if owner:
        lines.append(["owner", owner.describe()])
    if evidence.record:
        lines += [["started", evidence.record.created], ["command", shlex.join(evidence.record.command)]]
    lines += [[name, text] for name, (text, *_) in facts([summary]).items() if text != UNKNOWN]
    for row in sorted(evidence.evaluation, key=lambda row: row["bits_per_byte"]):
        lines.append(["evaluation", f"{row['bits_per_byte']:.3f} bits per byte  {row['name']}"])
    best, latest = directory.best(), directory.latest()
    if latest:
        lines.append(["checkpoints", f"latest {latest.name}" + (f", best {best.name}" if best else "")])
    lines += [["note", problem] for problem in evidence.problems]
    print(table([summary.name, ""], lines))
    for hint in next_commands(summary.state, str(directory.path)):
        say(f"next: {hint}")
    return 0


def next_commands(state: str, path: str) -> list[str]:
    """What one would type next."""
    run = shlex.quote(path)
    if state == "running":
        return [f"mamba-slm runs stop {run}"]
    if state == "done":
        return [f"mamba-slm report {run}", f"mamba-slm chat {run}"]
    return [f"mamba-slm runs resume {run}"]


def compare(args: argparse.Namespace) -> int:
    """`runs compare`."""
    from mamba_slm.core.errors import UsageError
    from mamba_slm.runs.evidence import read_evidence
    from mamba_slm.runs.layout import find_run
    from mamba_slm.runs.summary import flat_settings, summarize

    if len(args.run) < 2:
        raise UsageError("compare needs two runs or more", hint="mamba-slm runs compare RUN RUN")
    directories = [find_run(name, args.home) for name in args.run]
    summaries = [summarize(directory) for directory in directories]
    settings = [flat_settings(read_evidence(directory).config) for directory in directories]
    keys = list(dict.fromkeys(key for each in settings for key in each))
    differing = {key: [each.get(key) for each in settings] for key in keys}
    differing = {key: values for key, values in differing.items() if any(value != values[0] for value in values)}
    if args.json:
        print_json({"runs": [asdict(summary) for summary in summaries], "settings": differing})
        return 0
    header = ["", *(summary.name for summary in summaries)]
    print(table(header, [["state", *(each.state for each in summaries)]] + [
        [name, *texts] for name, texts in facts(summaries).items()
    ], right=header[1:]))  # fmt: skip
    print()
    if differing:
        print(table(["setting", *header[1:]], [
            [key, *(UNKNOWN if value is None else str(value) for value in values)] for key, values in differing.items()
        ], right=header[1:]))  # fmt: skip
    else:
        print("no setting differs")
    return 0


def stop(args: argparse.Namespace) -> int:
    """`runs stop`."""
    from mamba_slm.core.errors import MambaSlmError
    from mamba_slm.core.units import format_seconds, parse_seconds
    from mamba_slm.runs.control import asked_before, request_stop, wait_until_free
    from mamba_slm.runs.layout import find_run
    from mamba_slm.runs.lock import HEARTBEAT_SECONDS, live_owner
    from mamba_slm.runs.status import observed_state

    directory = find_run(args.run, args.home)
    wait_seconds = parse_seconds(args.wait)
    owner = live_owner(directory)
    second = owner is not None and asked_before(directory, owner)
    asked = request_stop(directory, again=args.again)
    if asked != "idle" and owner:
        said = "asked before" if asked == "before" else "asked"
        what = "end without saving" if second and args.again else "finish its step, save and end"
        delay = f"; it looks every {HEARTBEAT_SECONDS:.0f} s" if asked == "file" else ""
        say(f"{said}: {owner.describe()}, to {what}{delay}")
        if wait_seconds and not wait_until_free(directory, timeout_seconds=wait_seconds):
            raise MambaSlmError(
                f"{directory.path} is still running after {format_seconds(wait_seconds)}",
                hint=f"a long step or a large checkpoint takes time; wait longer: mamba-slm runs stop {directory.path} "
                "--wait 1h, or end it without saving: --again",
            )
    running = live_owner(directory) is not None
    state = "stopping" if running else observed_state(directory)
    if args.json:
        print_json({"run": str(directory.path), "asked": asked, "state": state})
    else:
        print(f"{directory.path}: {'was not running, ' if asked == 'idle' else ''}{state}")
    return 0


def resume(args: argparse.Namespace) -> int:
    """`runs resume`."""
    from mamba_slm.cli.main import main
    from mamba_slm.core.errors import UsageError
    from mamba_slm.runs.again import resume_command
    from mamba_slm.runs.layout import find_run

    command = resume_command(find_run(args.run, args.home))
    if args.only_print:
        print(command)
        return 0
    if not command.folder.is_dir():
        raise UsageError(
            f"the run was started in {command.folder}, which is not here",
            hint=f"go to the folder its paths belong to, then: {shlex.join(command.words)}",
        )
    say(f"{command}")
    os.chdir(command.folder)
    return main(command.words[1:])


def facts(summaries: list[Any]) -> dict[str, list[str]]:
    """Name of a fact → its text for each run."""
    from mamba_slm.core.units import format_bytes, format_count, format_seconds

    shown = {
        "step": ("step", "{:,}".format),
        "tokens": ("tokens", format_count),
        "time": ("seconds", format_seconds),
        "parameters": ("parameters", format_count),
        "training loss": ("loss", "{:.3f}".format),
        "validation loss": ("validation_loss", "{:.3f}".format),
        "bits per byte": ("bits_per_byte", "{:.3f}".format),
        "tokens per second": ("tokens_per_second", "{:,.0f}".format),
        "memory": ("memory_bytes", format_bytes),
    }
    return {
        name: [written(getattr(summary, field), write) for summary in summaries]
        for name, (field, write) in shown.items()
    }


def written(value: float | None, write: Any) -> str:
    """The value as `write` writes it, or a dash."""
    return UNKNOWN if value is None else write(value)
