"""`mamba-slm api-keys`: who may use a server."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mamba_slm.cli import console
from mamba_slm.core.units import parse_count

DEFAULT_FILE = Path("api-keys.json")
EPILOG = """\
The file holds hashes, and only its owner can read it; a key is shown once, when it is made. A running server reads
the file again when it changes: a new key works and a removed one is refused from the next request on.

examples:
  mamba-slm api-keys add alice --tokens-per-minute 100k
  mamba-slm api-keys add operator --admin
  mamba-slm api-keys list
  mamba-slm api-keys remove alice
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm api-keys`."""
    parser.epilog = EPILOG
    commands = parser.add_subparsers()
    adding = commands.add_parser("add", help="make a key and print it", description="Make a key and print it, once.")
    adding.epilog = "examples:\n  mamba-slm api-keys add alice --requests-per-minute 60\n"
    adding.add_argument("name", metavar="NAME", help="whose it is; shown in logs")
    role = adding.add_mutually_exclusive_group()
    role.add_argument("--admin", action="store_true", help="may load and unload adapters, too")
    role.add_argument("--metrics", action="store_true", help="may read /metrics, and nothing else")
    adding.add_argument("--requests-per-minute", metavar="N", type=parse_count, help="default: the server's")
    adding.add_argument("--tokens-per-minute", metavar="N", type=parse_count, help="default: the server's")
    listing = commands.add_parser("list", help="show the keys", description="Show the keys, without what is secret.")
    listing.epilog = "examples:\n  mamba-slm api-keys list --json\n"
    listing.add_argument("--json", action="store_true", help="one JSON list")
    removing = commands.add_parser("remove", help="forget a key", description="Forget a key: nobody can use it again.")
    removing.epilog = "examples:\n  mamba-slm api-keys remove alice\n"
    removing.add_argument("name", metavar="NAME", help="whose it is")
    for command in (adding, listing, removing):
        command.add_argument(
            "--file", metavar="FILE", type=Path, default=DEFAULT_FILE, help=f"default {DEFAULT_FILE} in this folder"
        )


def run(args: argparse.Namespace) -> int:
    """Run the subcommand."""
    done = perform(args)
    if args.subcommand == "add":
        console.say(f"made a key for {args.name!r} in {args.file}; keep it, it cannot be shown again:")
        print(done)
        return 0
    if args.subcommand == "remove":
        console.say(f"removed the key of {args.name!r} from {args.file}")
        return 0
    if args.json:
        console.print_json(done)
        return 0
    columns = ("name", "id", "role", "created", "requests_per_minute", "tokens_per_minute")
    shown = [{**row, "created": time.strftime("%Y-%m-%d", time.gmtime(row["created"]))} for row in done]
    cells = [["-" if row[name] is None else row[name] for name in columns] for row in shown]
    header = [name.replace("_per_minute", "/min") for name in columns]
    print(console.table(header, cells, right=["requests/min", "tokens/min"]))
    return 0


def perform(args: argparse.Namespace) -> Any:
    """Do what the subcommand says, and print nothing.

    Returns: the new key, which nobody can show again; for `list` the keys without what is secret; else None.
    """
    from mamba_slm.serving.api.guard.keys import add_key, read_keys, remove_key

    if args.subcommand == "add":
        role = "admin" if args.admin else "metrics" if args.metrics else "user"
        return add_key(
            args.file,
            args.name,
            role=role,
            requests_per_minute=args.requests_per_minute,
            tokens_per_minute=args.tokens_per_minute,
        )
    if args.subcommand == "remove":
        return remove_key(args.file, args.name)
    return [
        {name: value for name, value in asdict(record).items() if name != "sha256"}
        for record in read_keys(args.file).values()
    ]
