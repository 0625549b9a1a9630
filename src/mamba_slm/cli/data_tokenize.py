"""`mamba-slm data tokenize` and `mamba-slm data train-tokenizer`: from text to tokens."""

from __future__ import annotations

import argparse
import os
import shlex
import time
from collections.abc import Iterator

from mamba_slm.cli import console
from mamba_slm.cli.data_curate import SLURM, make_engine, reporting
from mamba_slm.cli.data_input import add_input, first_texts, input_documents, read_json, read_options
from mamba_slm.core.errors import ConfigError
from mamba_slm.core.units import format_seconds, parse_count

PRE_TOKENIZERS = ("llama3", "code")
MEASURED_CHARACTERS = 4_000_000
ONE_WORKER_BYTES = 256 << 20

TOKENIZE_EPILOG = """\
FOLDER receives train/ and validation/ (token shards) and a tokenizer.json: what `mamba-slm train --data FOLDER` reads.
The result depends on the text, the tokenizer and the settings, not on the number of workers; a killed run goes on when
the command is repeated. With the data extra, fastokens makes the ids, as long as they are those of tokenizers.

TOKENIZER is a tokenizer.json, a tiktoken file (NAME.tiktoken), a sentencepiece model with byte fallback
(tokenizer.model), GPT-2's encoder.json beside vocab.bpe, or a folder with one of them.

examples:
  mamba-slm data tokenize python-library --tokenizer my-tokenizer --out my-tokens
  mamba-slm data tokenize books/ --pattern "*.txt" --tokenizer my-tokenizer --out book-tokens
  mamba-slm data tokenize curated/ --tokenizer my-tokenizer --workers 2 --out curated-tokens
  mamba-slm data tokenize web.jsonl.zst --text-key content --on-error skip --tokenizer my-tokenizer --out web-tokens
  mamba-slm data tokenize enwiki-pages-articles.xml.bz2 --tokenizer my-tokenizer --out wiki-tokens
"""

TRAIN_EPILOG = """\
examples:
  mamba-slm data train-tokenizer python-library --out my-tokenizer
  mamba-slm data train-tokenizer src/ --pattern "*.py,*.md" --vocab-size 8192 --pre-tokenizer code --out my-tokenizer
"""


def configure_tokenize(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm data tokenize`."""
    from mamba_slm.core.config import add_flags
    from mamba_slm.data.engine.slurm_job import SlurmConfig

    parser.description, parser.epilog = "Tokenize text into shards that training reads.", TOKENIZE_EPILOG
    add_input(parser, nargs="+")
    parser.add_argument(
        "--tokenizer", required=True, metavar="TOKENIZER", help="a vocabulary: a file, or a folder with one"
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="new folder for the shards")
    parser.add_argument(
        "--validation-share",
        type=float,
        default=0.02,
        metavar="SHARE",
        help="documents to hold out for validation, chosen by a hash of their text (default 0.02; 0: none)",
    )
    parser.add_argument(
        "--engine",
        choices=("local", "ray", "slurm"),
        default="local",
        help="what runs the tasks: processes of this machine (default), a Ray cluster (RAY_ADDRESS), Slurm job arrays",
    )
    parser.add_argument(
        "--workers",
        type=parse_count,
        metavar="N",
        help="processes (default: the cores of this machine; one for less than 256 MiB)",
    )
    parser.add_argument(
        "--exact",
        action="store_true",
        help="never use fastokens; the ids are the same, it takes many times as long",
    )
    add_flags(parser.add_argument_group("Slurm"), SlurmConfig, prefix=SLURM)
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")


def configure_train_tokenizer(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm data train-tokenizer`."""
    parser.description = "Train a byte-level BPE tokenizer on text. Any text survives encoding and decoding."
    parser.epilog = TRAIN_EPILOG
    add_input(parser, nargs="+")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder for tokenizer.json")
    parser.add_argument("--vocab-size", type=parse_count, default=4096, metavar="N", help="tokens (default 4096)")
    parser.add_argument(
        "--pre-tokenizer",
        choices=PRE_TOKENIZERS,
        default="llama3",
        help="how text is cut before merging: llama3 (default; GGUF runtimes know it) or code (fewer tokens for code)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run_tokenize(args: argparse.Namespace) -> int:
    """Text to OUT/train, OUT/validation and OUT/tokenizer.json, all at once or not at all."""
    from mamba_slm.data.reading.parts import plan_parts
    from mamba_slm.data.tokenization.tokenize import tokenize
    from mamba_slm.text.tokenizer import Tokenizer

    if not 0 <= args.validation_share < 1:
        raise ConfigError(f"--validation-share must lie in [0, 1), got {args.validation_share}")
    tokenizer = Tokenizer.load(args.tokenizer)
    options = read_options(args)
    workers = args.workers
    if workers is None:
        size_bytes = sum(part.size_bytes for part in plan_parts(args.input, options))
        workers = 1 if size_bytes < ONE_WORKER_BYTES else len(os.sched_getaffinity(0))
    done = tokenize(
        args.input,
        tokenizer,
        args.out,
        reading=options,
        validation_share=args.validation_share,
        speed="exact" if args.exact else "auto",
        workers=workers,
        make_engine=make_engine(args, workers),
        reporting=reporting(),
    )
    console.say(str(done.read))
    for note in (*done.notes, *(f"note: of the text, {loss}" for loss in tokenizer.losses)):
        console.say(note)
    if args.json:
        console.print_json(
            {
                "folder": str(done.folder),
                "tokenizer_fingerprint": tokenizer.fingerprint,
                "parts": {part: report.to_dict() for part, report in done.parts.items()},
                "read": read_json(done.read),
                "notes": list(done.notes),
            }
        )
    else:
        print("\n".join(map(str, done.parts.values())))
        console.say(f"next: mamba-slm train --data {shlex.quote(str(done.folder))}")
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
        words, out = shlex.join(map(str, args.input)), shlex.quote(str(args.out))
        console.say(f"next: mamba-slm data tokenize {words} --tokenizer {out} --out FOLDER")
    return 0
