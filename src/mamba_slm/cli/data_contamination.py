"""`mamba-slm data contamination`: which questions of benchmarks a training set holds."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mamba_slm.cli import console
from mamba_slm.cli.data_input import add_input, input_documents, read_options
from mamba_slm.core.errors import ConfigError
from mamba_slm.core.units import parse_count

if TYPE_CHECKING:
    from mamba_slm.data.document import Document
    from mamba_slm.data.reading.options import ReadOptions
    from mamba_slm.data.reading.report import ReadReport
    from mamba_slm.text.tokenizer import Tokenizer

SHOWN_QUESTIONS = 5

EPILOG = """\
A question counts as seen when 13 words in a row of it stand in the training set, or all of a shorter one (8 to 12
words; below that together with an answer), as `data curate --decontaminate` removes them. A model's score on such
questions may be memory. INPUT is text, or a folder of token shards, which its tokenizer turns into text again.

--json prints, and --out writes, {"documents", "words", "ngram_words", "benchmarks", "format_version"}; a benchmark has
benchmark, questions, looked_for, seen, mostly_seen, share, documents and examples (file, share, document): all
questions seen in --out, the first ones with --json.

examples:
  mamba-slm data contamination books/ --benchmarks questions/
  mamba-slm data contamination my-tokens --benchmarks questions/gsm8k --out contamination.json
"""


def configure_contamination(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm data contamination`."""
    parser.description = "Count how many questions of each benchmark stand in a training set."
    parser.epilog = EPILOG
    add_input(parser, nargs="+")
    parser.add_argument(
        "--benchmarks", action="append", required=True, metavar="PATH",
        help="file or folder with questions in any published form; may be repeated",
    )  # fmt: skip
    parser.add_argument("--tokenizer", metavar="PATH", help="of token shards; default: the one that lies beside them")
    parser.add_argument("--out", metavar="FILE", help="write every question seen there, as JSON")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument(
        "--ngram-words", type=parse_count, default=13, metavar="N", help="words in a row that tell a question (13)"
    )


def run_contamination(args: argparse.Namespace) -> int:
    """Run the command."""
    from mamba_slm.core.files import write_json_atomic
    from mamba_slm.data.curation.contamination.config import ContaminationConfig
    from mamba_slm.data.curation.contamination.index import BenchmarkIndex
    from mamba_slm.data.curation.contamination.overlap import measure_overlap
    from mamba_slm.data.reading.report import ReadReport

    index = BenchmarkIndex.build(args.benchmarks, ContaminationConfig(ngram_words=args.ngram_words))
    console.say(f"looking for {len(index.arrays['question_numbers']):,} questions of {len(index.files)} files")
    read = ReadReport()
    with console.progress(None, "documents", "reading") as bar:
        found = training_documents(args.input, args.tokenizer, read_options(args), read)
        overlap = measure_overlap((document for document in found if bar.advance() is None), index)
    if read.other_files or read.left_out or read.num_repaired or read.num_problems:
        console.say(str(read))
    if args.out:
        write_json_atomic(Path(args.out), overlap.to_dict())
        console.say(f"wrote {args.out}")
    if args.json:
        console.print_json(overlap.to_dict(examples=SHOWN_QUESTIONS))
        return 0
    rows = [
        [one.benchmark, f"{one.questions:,}", f"{one.looked_for:,}", f"{one.seen:,}", f"{one.share:.1%}",
         f"{one.mostly_seen:,}", f"{one.documents:,}"]
        for one in overlap.benchmarks
    ]  # fmt: skip
    header = ["benchmark", "questions", "looked for", "seen", "share", "mostly seen", "documents"]
    print(f"{overlap.documents:,} documents of {overlap.words:,} words\n")
    print(console.table(header, rows, right=header[1:]))
    for one in (question for benchmark in overlap.benchmarks for question in benchmark.examples[:1]):
        console.say(f"{one.file}: {one.share:.0%} of its runs, first in {one.document}")
    return 0


def training_documents(
    inputs: list[str], tokenizer: str | None, options: ReadOptions, report: ReadReport
) -> Iterator[Document]:
    """The texts of all inputs, those of token shards included."""
    from mamba_slm.data.curation.contamination.overlap import shard_documents
    from mamba_slm.data.shards import is_shard_folder

    for name in inputs:
        path = Path(name)
        parts = [folder for folder in (path, path / "train", path / "validation") if is_shard_folder(folder)]
        if not parts:
            yield from input_documents([name], options, report)
        for folder in parts:
            yield from shard_documents(folder, tokenizer_of(folder, tokenizer))


def tokenizer_of(folder: Path, named: str | None) -> Tokenizer:
    """The tokenizer that was named, or the one that lies beside the shards.

    Raises:
        ConfigError: there is none.
    """
    from mamba_slm.text.tokenizer import Tokenizer

    if named is not None:
        return Tokenizer.load(named)
    for place in (folder, folder.parent):
        if (place / "tokenizer.json").is_file():
            return Tokenizer.load(place)
    raise ConfigError(
        f"{folder} holds tokens, and no tokenizer.json lies beside them", hint="name it with --tokenizer PATH"
    )
