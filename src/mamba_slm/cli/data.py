"""`mamba-slm data`: public text, text to tokens, and a look at both."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mamba_slm.cli import console
from mamba_slm.cli.data_curate import configure_curate, run_curate
from mamba_slm.cli.data_input import add_input, first_texts, input_documents, read_json, read_options
from mamba_slm.cli.data_sources import configure_download, configure_sources, run_download, run_sources
from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.core.units import format_seconds, parse_count

if TYPE_CHECKING:
    from mamba_slm.data.document import Document
    from mamba_slm.text.tokenizer import Tokenizer

PRE_TOKENIZERS = ("llama3", "code")
MEASURED_CHARACTERS = 4_000_000

EPILOG = """\
examples:
  mamba-slm data sources
  mamba-slm data inspect python-library
  mamba-slm data train-tokenizer python-library --out my-tokenizer
  mamba-slm data tokenize python-library --tokenizer my-tokenizer --out my-tokens
"""

TOKENIZE_EPILOG = """\
FOLDER receives train/ and validation/ (token shards) and a copy of tokenizer.json: what `mamba-slm train --data FOLDER`
reads.

examples:
  mamba-slm data tokenize python-library --tokenizer my-tokenizer --out my-tokens
  mamba-slm data tokenize books/ --pattern "*.txt" --tokenizer my-tokenizer --out book-tokens
  mamba-slm data tokenize web.jsonl.zst --text-key content --on-error skip --tokenizer my-tokenizer --out web-tokens
  mamba-slm data tokenize enwiki-pages-articles.xml.bz2 --tokenizer my-tokenizer --out wiki-tokens
"""

TRAIN_EPILOG = """\
examples:
  mamba-slm data train-tokenizer python-library --out my-tokenizer
  mamba-slm data train-tokenizer src/ --pattern "*.py,*.md" --vocab-size 8192 --pre-tokenizer code --out my-tokenizer
"""

INSPECT_EPILOG = """\
examples:
  mamba-slm data inspect books/ --tokenizer my-tokenizer
  mamba-slm data inspect Posts.xml
  mamba-slm data inspect my-tokens --json
  mamba-slm data inspect --tokenizer my-tokenizer --view "def f(x): return x"
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm data` and its subcommands."""
    parser.epilog = EPILOG
    commands = parser.add_subparsers()

    configure_sources(commands.add_parser("sources", help="public data sets: size, licence, access, the mixture"))
    configure_download(commands.add_parser("download", help="download a part of a public data set"))

    configure_curate(commands.add_parser("curate", help="keep the text worth training on"))

    tokenize = commands.add_parser("tokenize", help="write text as token shards", epilog=TOKENIZE_EPILOG)
    tokenize.description = "Tokenize text into shards that training reads."
    add_input(tokenize, nargs="+")
    tokenize.add_argument("--tokenizer", required=True, metavar="PATH", help="tokenizer.json, or a folder with one")
    tokenize.add_argument("--out", required=True, metavar="FOLDER", help="new folder for the shards")
    tokenize.add_argument(
        "--validation-share",
        type=float,
        default=0.02,
        metavar="SHARE",
        help="documents to hold out for validation, chosen by a hash of their names (default 0.02; 0: none)",
    )
    tokenize.add_argument("--json", action="store_true", help="print what was written as JSON")

    train = commands.add_parser("train-tokenizer", help="train a byte-level BPE tokenizer", epilog=TRAIN_EPILOG)
    train.description = "Train a byte-level BPE tokenizer on text. Any text survives encoding and decoding."
    add_input(train, nargs="+")
    train.add_argument("--out", required=True, metavar="FOLDER", help="folder for tokenizer.json")
    train.add_argument("--vocab-size", type=parse_count, default=4096, metavar="N", help="tokens (default 4096)")
    train.add_argument(
        "--pre-tokenizer",
        choices=PRE_TOKENIZERS,
        default="llama3",
        help="how text is cut before merging: llama3 (default; GGUF runtimes know it) or code (fewer tokens for code)",
    )
    train.add_argument("--json", action="store_true", help="print the result as JSON")

    inspect = commands.add_parser("inspect", help="count, find duplicates and bad lines", epilog=INSPECT_EPILOG)
    inspect.description = "Statistics of text or token shards: sizes, lengths, exact duplicates, what cannot be read."
    add_input(inspect, nargs="?", skip=("on_error",))
    inspect.add_argument("--tokenizer", metavar="PATH", help="count tokens, too: tokenizer.json, or a folder with one")
    inspect.add_argument("--view", metavar="TEXT", help="show how the tokenizer cuts this text instead")
    inspect.add_argument("--json", action="store_true", help="print the statistics as JSON")


def run(args: argparse.Namespace) -> int:
    """Run one of the subcommands."""
    return {
        "sources": run_sources,
        "download": run_download,
        "curate": run_curate,
        "tokenize": run_tokenize,
        "train-tokenizer": run_train_tokenizer,
        "inspect": run_inspect,
    }[args.subcommand](args)


def run_tokenize(args: argparse.Namespace) -> int:
    """Text to OUT/train, OUT/validation and OUT/tokenizer.json, all at once or not at all."""
    from mamba_slm.core.files import folder_written_atomically
    from mamba_slm.data.encode import EncodeReport, encode_documents
    from mamba_slm.data.reading.report import ReadReport
    from mamba_slm.text.tokenizer import Tokenizer

    if not 0 <= args.validation_share < 1:
        raise ConfigError(f"--validation-share must lie in [0, 1), got {args.validation_share}")
    out = Path(args.out)
    if out.exists():
        raise DataError(f"{out} exists already", hint="choose another folder with --out, or delete this one first")
    tokenizer = Tokenizer.load(args.tokenizer)
    options = read_options(args)
    read = ReadReport()
    reports: dict[str, EncodeReport] = {}

    held_out = (
        [is_held_out(document, args) for document in input_documents(args.input, options, read)]
        if args.validation_share
        else []
    )
    splits = 0 < sum(held_out) < len(held_out)  # reading twice costs little beside tokenizing
    if held_out and not splits:
        console.say(f"no validation: {len(held_out)} documents are too few to hold out {args.validation_share:.1%}")

    def encoded(part: str, folder: Path) -> None:
        nonlocal read
        read = ReadReport()
        documents = (
            document
            for document in input_documents(args.input, options, read)
            if not splits or is_held_out(document, args) == (part == "validation")
        )
        with console.progress(None, "bytes", f"tokenizing {part}") as bar:
            done = encode_documents(documents, tokenizer, folder / part, on_progress=bar.advance)
        reports[part] = replace(done, folder=str(out / part))

    with folder_written_atomically(out) as folder:
        encoded("train", folder)
        if splits:
            encoded("validation", folder)
        tokenizer.save(folder)
    console.say(str(read))
    if args.json:
        console.print_json(
            {
                "folder": str(out),
                "tokenizer_fingerprint": tokenizer.fingerprint,
                "parts": {part: report.to_dict() for part, report in reports.items()},
                "read": read_json(read),
            }
        )
    else:
        print("\n".join(map(str, reports.values())))
        console.say(f"next: mamba-slm train --data {out}")
    return 0


def run_train_tokenizer(args: argparse.Namespace) -> int:
    """Text to OUT/tokenizer.json, with the bytes per token that it reaches."""
    from mamba_slm.data.reading.report import ReadReport
    from mamba_slm.text.train_tokenizer import measure_bytes_per_token, train_tokenizer

    options, read = read_options(args), ReadReport()
    start = time.perf_counter()
    with console.progress(None, "bytes", "reading") as bar:

        def texts() -> Iterator[str]:
            for document in input_documents(args.input, options, read):
                bar.advance(document.num_bytes)
                yield document.text

        tokenizer = train_tokenizer(texts(), vocab_size=args.vocab_size, pre_tokenizer=args.pre_tokenizer)
    seconds = time.perf_counter() - start
    file = tokenizer.save(args.out)
    ratio = measure_bytes_per_token(tokenizer, first_texts(args.input, options, MEASURED_CHARACTERS))
    console.say(str(read))
    if args.json:
        console.print_json(
            {
                "file": str(file),
                "vocab_size": tokenizer.vocab_size,
                "fingerprint": tokenizer.fingerprint,
                "pre_tokenizer": args.pre_tokenizer,
                "bytes_per_token": ratio,
                "seconds": seconds,
                "read": read_json(read),
            }
        )
    else:
        print(
            f"{file}: {tokenizer.vocab_size} tokens in {format_seconds(seconds)}, {ratio:.2f} bytes per token "
            f"(on up to {MEASURED_CHARACTERS:,} characters of the training text)"
        )
        words = " ".join(args.input)
        console.say(f"next: mamba-slm data tokenize {words} --tokenizer {args.out} --out FOLDER")
    return 0


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


def is_held_out(document: Document, args: argparse.Namespace) -> bool:
    """Whether a document belongs to the validation part."""
    from mamba_slm.data import python_library, splits

    if document.source == python_library.NAME:
        return python_library.held_out(document, args.validation_share)
    return splits.is_held_out(document.id, args.validation_share)
