"""`mamba-slm doctor --train …`: whether a training run is right, before it costs money."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from mamba_slm.cli import console
from mamba_slm.cli.doctor_distributed import report
from mamba_slm.core.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `--train`."""
    group = parser.add_argument_group("a training run")
    group.add_argument(
        "--train",
        nargs=argparse.REMAINDER,
        metavar="…",
        help="examine a run before it costs money: what follows is what would follow `mamba-slm train`; comes last",
    )


def run(args: argparse.Namespace) -> int:
    """Build the model, take one step, judge both; 6 when something is wrong."""
    from mamba_slm.cli import train
    from mamba_slm.cli.parser import Parser
    from mamba_slm.training.checkup.examine import examine_training

    parser = Parser(prog="mamba-slm doctor --train")
    train.configure(parser)
    asked = parser.parse_args(args.train)
    if asked.resume is not None:
        raise UsageError("--resume goes on with weights that exist; this looks at fresh ones", hint="leave it out")
    config, _ = train.settings_of(asked, None)
    findings = examine_training(config, processes=asked.nproc or 1, say=console.say)
    right = all(finding.status != "fail" for finding in findings)
    if args.json or asked.json:
        console.print_json({"ok": right, "findings": [asdict(finding) for finding in findings]})
    else:
        what = "this run"
        print("\n".join(report(findings, right=f"{what} can start", wrong=f"{what} must not start")))
    return 0 if right else 6
