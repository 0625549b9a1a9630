"""`mamba-slm report`: the report card of a run, as Markdown and as one HTML file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mamba_slm.runs.layout import RunDirectory

FORMATS = ("markdown", "html")
SUFFIXES = {".md": "markdown", ".markdown": "markdown", ".html": "html", ".htm": "html"}

EPILOG = """\
examples:
  mamba-slm report quickstart
  mamba-slm report quickstart --format html --out quickstart.html
  mamba-slm report runs/20260401-nano --stdout | less
  mamba-slm report runs/20260401-nano --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `mamba-slm report`."""
    parser.description = (
        "Write the report card of a run to RUN/report.md and RUN/report.html and print their paths. It is made from "
        "the run's folder alone, at any time, also for a run that is not finished or has lost files. The same folder "
        "gives the same bytes. The page is one file that fetches nothing: curves, samples, plan and outcome, data, "
        "settings, and how to run it again."
    )
    parser.epilog = EPILOG
    parser.add_argument("run", metavar="RUN", help="folder of the run, or its name in the home of runs")
    parser.add_argument("--home", metavar="DIR", help="home of runs (default: $MAMBA_SLM_HOME, else ./runs)")
    parser.add_argument(
        "--format", choices=FORMATS, help="only this one (default: both; with --out what its name says, else Markdown)"
    )
    parser.add_argument("--out", metavar="FILE", help="write one card to this file instead of into the run")
    parser.add_argument("--stdout", action="store_true", help="print the card, as Markdown by default; write nothing")
    parser.add_argument(
        "--json", action="store_true", help='print {"run", "report", "page", "markdown"}; write nothing'
    )


def run(args: argparse.Namespace) -> int:
    """Write or print the card."""
    from mamba_slm.cli.console import print_json
    from mamba_slm.core.errors import UsageError
    from mamba_slm.core.files import write_text_atomic
    from mamba_slm.runs.layout import find_run
    from mamba_slm.runs.report import render_report, write_html, write_report
    from mamba_slm.training.report_cards import explain_settings

    if args.out and (args.stdout or args.json):
        raise UsageError("--out writes a file, --stdout and --json print", hint="leave one of them out")
    directory = find_run(args.run, args.home)
    if args.json:
        files = {"report": str(directory.report_file), "page": str(directory.page_file)}
        print_json({"run": str(directory.path), **files, "markdown": render_report(directory)})
    elif args.stdout:
        sys.stdout.write(rendered(directory, args.format or "markdown"))
    elif args.out:
        chosen = args.format or SUFFIXES.get(Path(args.out).suffix.lower(), "markdown")
        write_text_atomic(Path(args.out), rendered(directory, chosen))
        print(args.out)
    else:
        if args.format != "html":
            print(write_report(directory))
        if args.format != "markdown":
            print(write_html(directory, explain=explain_settings))
    return 0


def rendered(run: RunDirectory, chosen: str) -> str:
    """The card in one of `FORMATS`."""
    from mamba_slm.runs.report import render_html, render_report
    from mamba_slm.training.report_cards import explain_settings

    return render_html(run, explain=explain_settings) if chosen == "html" else render_report(run)
