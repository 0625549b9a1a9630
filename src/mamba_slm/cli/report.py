"""`mamba-slm report`: the report card of a run."""

from __future__ import annotations

import argparse
import sys

EPILOG = """\
examples:
  mamba-slm report quickstart
  mamba-slm report runs/20260401-nano --stdout | less
  mamba-slm report runs/20260401-nano --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `mamba-slm report`."""
    parser.description = (
        "Write the report card of a run to RUN/report.md and print its path. It is made from the run's folder alone, "
        "at any time, also for a run that is not finished or has lost files. The same folder gives the same bytes."
    )
    parser.epilog = EPILOG
    parser.add_argument("run", metavar="RUN", help="folder of the run, or its name in the home of runs")
    parser.add_argument("--home", metavar="DIR", help="home of runs (default: $MAMBA_SLM_HOME, else ./runs)")
    parser.add_argument("--stdout", action="store_true", help="print the card and write nothing")
    parser.add_argument("--json", action="store_true", help='print {"run", "report", "markdown"} and write nothing')


def run(args: argparse.Namespace) -> int:
    """Write or print the card."""
    from mamba_slm.cli.console import print_json
    from mamba_slm.runs.layout import find_run
    from mamba_slm.runs.report import render_report, write_report

    directory = find_run(args.run, args.home)
    if args.json:
        markdown = render_report(directory)
        print_json({"run": str(directory.path), "report": str(directory.report_file), "markdown": markdown})
    elif args.stdout:
        sys.stdout.write(render_report(directory))
    else:
        print(write_report(directory))
    return 0
