"""`mamba-slm data sources` and `data download`: public text, what one may do with it, and a part of it on disk."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamba_slm.cli import console
from mamba_slm.core.units import format_bytes, format_count, parse_count

if TYPE_CHECKING:
    from mamba_slm.data.sources.download import Download
    from mamba_slm.data.sources.hub import HubFile
    from mamba_slm.data.sources.source import Source

SOURCES_EPILOG = """\
examples:
  mamba-slm data sources
  mamba-slm data sources describe starcoder
  mamba-slm data sources mixture --without pile
  mamba-slm data sources list --sources my-sources.yaml --json
"""

DOWNLOAD_EPILOG = """\
Interrupt it and run it again: it goes on where it stopped. Files are checked by size and SHA-256 before they get their
names. HF_TOKEN is sent for gated sources; HF_ENDPOINT names another hub.

--dry-run counts with the figures of the table, without the network. Files are fetched whole, so it can become more.

examples:
  mamba-slm data download fineweb-edu-10b --tokens 1B --out data/fineweb
  mamba-slm data download fineweb-edu-10b --tokens 1B --out data/fineweb --dry-run
  mamba-slm data download tinystories --out data/tinystories
"""


def configure_sources(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm data sources`."""
    parser.description = "Public data sets: size, tokens, licence, access, share in the published mixture."
    parser.epilog = SOURCES_EPILOG
    parser.add_argument(
        "action",
        nargs="?",
        choices=("list", "describe", "mixture"),
        default="list",
        help="list (default), describe NAME, or the published mixture with what can be had",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="the source to describe")
    parser.add_argument("--have", metavar="NAMES", help="mixture: withdrawn sources of which you have a copy")
    parser.add_argument("--without", metavar="NAMES", help="mixture: sources that you do not want, with commas")
    add_sources_file(parser)
    parser.add_argument("--json", action="store_true", help="print as JSON")


def configure_download(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm data download`."""
    parser.description = "Download a part of a public data set: as few files as the tokens need."
    parser.epilog = DOWNLOAD_EPILOG
    parser.add_argument("name", metavar="NAME", help="a source of `mamba-slm data sources`")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder for the files and download.manifest")
    parser.add_argument(
        "--tokens", type=parse_count, metavar="N", help="about how many tokens, such as 1B (default: everything)"
    )
    add_sources_file(parser)
    parser.add_argument("--dry-run", action="store_true", help="show size, licence and access, and fetch nothing")
    parser.add_argument("--json", action="store_true", help="print what was downloaded as JSON")


def add_sources_file(parser: argparse.ArgumentParser) -> None:
    """`--sources`."""
    parser.add_argument("--sources", metavar="FILE", help="YAML with further sources, in the form of the table")


def run_sources(args: argparse.Namespace) -> int:
    """Show the table, one source, or the mixture."""
    from mamba_slm.core.errors import UsageError
    from mamba_slm.data.sources.source import find_source, load_sources

    sources = load_sources(*filter(None, [args.sources]))
    if (args.name is not None) != (args.action == "describe"):
        raise UsageError(
            "describe needs a NAME, and only describe takes one", hint="mamba-slm data sources describe c4"
        )
    if args.action == "mixture":
        return show_mixture(args)
    if args.action == "describe":
        source = find_source(sources, args.name)
        console.print_json(asdict(source)) if args.json else print(source)
        return 0
    if args.json:
        console.print_json([asdict(source) for source in sources.values()])
        return 0
    rows = [
        [
            source.name,
            source.kind,
            "?" if source.tokens is None else format_count(source.tokens),
            "?" if source.size_bytes is None else format_bytes(source.size_bytes),
            "" if source.mixture_percent is None else f"{source.mixture_percent:g}%",
            source.access,
            source.licence,
        ]
        for source in sources.values()
    ]
    header = ["name", "kind", "tokens", "size", "mixture", "access", "licence"]
    print(console.table(header, rows, right=["tokens", "size", "mixture"]))
    console.say("next: mamba-slm data download NAME --tokens 1B --out FOLDER")
    return 0


def show_mixture(args: argparse.Namespace) -> int:
    """The weights, and in front of everything else what was changed about them."""
    from mamba_slm.data.sources.published_mixture import published_mixture
    from mamba_slm.data.sources.source import load_sources

    sources = load_sources(*filter(None, [args.sources]))
    mixture = published_mixture(sources, have=names(args.have), without=names(args.without))
    for remark in mixture.remarks:
        console.say(console.coloured(f"changed: {remark}", "yellow"))
    if args.json:
        console.print_json(asdict(mixture))
    else:
        rows = [[name, f"{weight:.1%}", sources[name].title] for name, weight in mixture.weights.items()]
        print(console.table(["source", "share", ""], rows, right=["share"]))
    return 0


def names(text: str | None) -> list[str]:
    """Names separated by commas."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def run_download(args: argparse.Namespace) -> int:
    """Fetch files, with a bar, and say what they are."""
    from mamba_slm.data.sources.download import download
    from mamba_slm.data.sources.source import find_source, load_sources
    from mamba_slm.data.sources.web import Web, token_of_environment

    source = find_source(load_sources(*filter(None, [args.sources])), args.name)
    if args.dry_run:
        return show_download_plan(args, source)
    bar: Any = None

    def begin(files: list[HubFile]) -> None:
        nonlocal bar
        size = sum(file.size_bytes for file in files)
        console.say(f"{source.name}: {len(files)} files, {format_bytes(size)}; licence: {source.licence}")
        bar = console.progress(size, "bytes", source.name)

    def advance(num_bytes: int) -> None:
        if bar is not None:
            bar.advance(num_bytes)

    try:
        done = download(
            source,
            Path(args.out),
            tokens=args.tokens,
            web=Web(token=token_of_environment(), say=console.say),
            on_plan=begin,
            on_progress=advance,
        )
    finally:
        if bar is not None:
            bar.__exit__()
    if args.json:
        console.print_json(download_json(done))
    else:
        print(
            f"{done.folder}: {len(done.files)} files, {format_bytes(done.size_bytes)}, about "
            f"{format_count(done.tokens)} tokens (estimated from the size) of {source.hub} at {done.commit[:12]}"
        )
        if args.tokens and done.tokens < args.tokens:
            console.say(f"that is all there is: fewer than the {format_count(args.tokens)} tokens asked for")
        key = "" if source.text_key == "text" else f" --text-key {source.text_key}"
        console.say(f"next: mamba-slm data inspect {args.out}{key}")
    return 0


def show_download_plan(args: argparse.Namespace, source: Source) -> int:
    """What would be fetched, as far as the table knows."""
    tokens = args.tokens if source.tokens is None else min(args.tokens or source.tokens, source.tokens)
    size_bytes = source.size_bytes if tokens is None else source.bytes_of(tokens)
    if args.json:
        console.print_json(
            {
                "folder": args.out,
                "source": asdict(source),
                "tokens_estimated": tokens,
                "size_bytes_estimated": size_bytes,
            }
        )
        return 0
    size = "size not known" if size_bytes is None else f"about {format_bytes(size_bytes)}"
    amount = "" if tokens is None else f" for {format_count(tokens)} tokens (estimated)"
    print(f"{args.out}: {size}{amount} of {source.hub or 'no hub'}; {source.access}; licence: {source.licence}")
    return 0


def download_json(done: Download) -> dict[str, Any]:
    """A `Download` for programs."""
    return {
        "folder": str(done.folder),
        "source": asdict(done.source),
        "commit": done.commit,
        "tokens_estimated": done.tokens,
        "size_bytes": done.size_bytes,
        "fetched_bytes": done.fetched_bytes,
        "files": [asdict(file) for file in done.files],
    }
