"""`mamba-slm export NAME` for the formats of plugins. No plugin is imported before it writes."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from mamba_slm.cli import console
from mamba_slm.core.errors import UsageError
from mamba_slm.core.units import format_bytes


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments that all of them share; their own settings are options."""
    parser.add_argument("model", metavar="MODEL", help="model folder, checkpoint or run directory")
    parser.add_argument("--out", metavar="FOLDER", required=True, help="where to write")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the plugin; may be given several times",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FOLDER once the new one is verified")
    parser.add_argument("--json", action="store_true", help="one JSON document: out, files, checked, plugin")


def run(args: argparse.Namespace) -> int:
    """Run the subcommand."""
    from mamba_slm.export.plugin import export_with_plugin

    options = {}
    for word in args.option:
        name, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"--option {word!r} is not NAME=VALUE")
        options[name.replace("-", "_")] = value
    done = export_with_plugin(
        args.subcommand, args.model, Path(args.out), options=options, overwrite=args.overwrite, say=console.say
    )
    if args.json:
        console.print_json({**asdict(done), "out": str(done.out)})
        return 0
    print(f"{done.out}  {format_bytes(sum(done.files.values()))} in {len(done.files)} files, by {done.plugin}")
    print(f"verified  {done.checked}")
    return 0
