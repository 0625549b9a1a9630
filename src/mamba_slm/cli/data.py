"""`mamba-slm data`: public text, text to tokens, and a look at both."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mamba_slm.cli import console
from mamba_slm.cli.data_chat import add_chat_view, run_chat_view
from mamba_slm.cli.data_contamination import configure_contamination, run_contamination
from mamba_slm.cli.data_curate import configure_curate, run_curate
from mamba_slm.cli.data_input import add_input, input_documents, read_options
from mamba_slm.cli.data_mix import configure_mix, run_mix
from mamba_slm.cli.data_sources import configure_download, configure_sources, run_download, run_sources
from mamba_slm.cli.data_tokenize import (
    configure_tokenize,
    configure_train_tokenizer,
    run_tokenize,
    run_train_tokenizer,
)
from mamba_slm.core.errors import ConfigError

if TYPE_CHECKING:
    from mamba_slm.text.tokenizer import Tokenizer

EPILOG = """\
examples:
  mamba-slm data sources
  mamba-slm data inspect python-library
  mamba-slm data train-tokenizer python-library --out my-tokenizer
  mamba-slm data tokenize python-library --tokenizer my-tokenizer --out my-tokens
  mamba-slm data mix web=web-tokens:0.7 code=code-tokens:0.3 --tokens 10B --out mixture.yaml
"""

INSPECT_EPILOG = """\
examples:
  mamba-slm data inspect books/ --tokenizer my-tokenizer
  mamba-slm data inspect Posts.xml
  mamba-slm data inspect my-tokens --json
  mamba-slm data inspect --tokenizer my-tokenizer --view "def f(x): return x"
  mamba-slm data inspect chats.jsonl --as chat
  mamba-slm data inspect chats.jsonl --as mask --tokenizer my-model --number 3
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm data` and its subcommands."""
    parser.epilog = EPILOG
    commands = parser.add_subparsers()

    configure_sources(commands.add_parser("sources", help="public data sets: size, licence, access, the mixture"))
    configure_download(commands.add_parser("download", help="download a part of a public data set"))

    configure_curate(commands.add_parser("curate", help="keep the text worth training on"))

    contamination = commands.add_parser("contamination", help="questions of benchmarks that stand in a training set")
    configure_contamination(contamination)

    configure_tokenize(commands.add_parser("tokenize", help="write text as token shards"))
    configure_train_tokenizer(commands.add_parser("train-tokenizer", help="train a byte-level BPE tokenizer"))

    configure_mix(commands.add_parser("mix", help="weights of several sources, and what they come to"))

    inspect = commands.add_parser("inspect", help="count, find duplicates and bad lines", epilog=INSPECT_EPILOG)
    inspect.description = "Statistics of text or token shards: sizes, lengths, exact duplicates, what cannot be read."
    add_input(inspect, nargs="?", skip=("on_error",))
    inspect.add_argument("--tokenizer", metavar="PATH", help="count tokens, too: tokenizer.json, or a folder with one")
    inspect.add_argument("--view", metavar="TEXT", help="show how the tokenizer cuts this text instead")
    add_chat_view(inspect)
    inspect.add_argument("--json", action="store_true", help="print the statistics as JSON")


def run(args: argparse.Namespace) -> int:
    """Run one of the subcommands."""
    return {
        "sources": run_sources,
        "download": run_download,
        "curate": run_curate,
        "contamination": run_contamination,
        "tokenize": run_tokenize,
        "train-tokenizer": run_train_tokenizer,
        "mix": run_mix,
        "inspect": run_inspect,
    }[args.subcommand](args)


def run_inspect(args: argparse.Namespace) -> int:
    """Statistics of text or shards, or the tokens of one text."""
    from mamba_slm.data.inspect import inspect_documents, inspect_shards, token_view
    from mamba_slm.data.reading.report import ReadReport
    from mamba_slm.data.shards import is_shard_folder
    from mamba_slm.text.tokenizer import Tokenizer

    tokenizer: Tokenizer | None = None if args.tokenizer is None else Tokenizer.load(args.tokenizer)
    if args.view is not None:
        if tokenizer is None or args.input is not None:
            raise ConfigError("--view shows one text: it needs --tokenizer and no INPUT")
        ids = tokenizer.encode(args.view)
        if args.json:
            console.print_json([{"id": id, "bytes": list(tokenizer.token_bytes(id))} for id in ids])
        else:
            print(token_view(tokenizer, args.view))
        return 0
    if args.view_as is not None:
        return run_chat_view(args, tokenizer)
    if args.input is None:
        raise ConfigError("nothing to inspect", hint="mamba-slm data inspect FILE_OR_FOLDER")
    path = Path(args.input)
    parts = [folder for folder in (path, path / "train", path / "validation") if is_shard_folder(folder)]
    if parts:
        found = {str(folder): inspect_shards(folder, tokenizer=tokenizer) for folder in parts}
    else:
        options, read = read_options(args, on_error="skip"), ReadReport()
        with console.progress(None, "documents", "reading") as bar:
            documents = (counted for counted in input_documents([args.input], options, read) if bar.advance() is None)
            found = {str(path): inspect_documents(documents, tokenizer=tokenizer, report=read)}
        if read.other_files or read.left_out or read.num_repaired or read.num_problems:
            console.say(str(read))
    if args.json:
        console.print_json({name: inspection.to_dict() for name, inspection in found.items()})
    else:
        print("\n\n".join(f"{name}\n{inspection}" for name, inspection in found.items()))
    return 0
