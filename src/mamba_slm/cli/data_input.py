"""The arguments that say which text is read, and how; the same for every command that reads text."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mamba_slm.data.document import Document
    from mamba_slm.data.reading.options import ReadOptions
    from mamba_slm.data.reading.report import ReadReport

PYTHON_LIBRARY = "python-library"


def add_input(parser: argparse.ArgumentParser, *, nargs: str, skip: tuple[str, ...] = ()) -> None:
    """INPUT, and a flag for each of `ReadOptions` that is not in `skip`."""
    from mamba_slm.core.config import add_flags
    from mamba_slm.data.reading.options import ReadOptions

    parser.add_argument(
        "input",
        nargs=nargs,
        metavar="INPUT",
        help="text, .json, .jsonl, .parquet, .csv, .tsv, .warc, a dump of Wikipedia or Stack Exchange (also .gz, .zst, "
        f".bz2, .xz), a folder of them, or {PYTHON_LIBRARY}: Python's own sources",
    )
    add_flags(parser.add_argument_group("reading"), ReadOptions, skip=skip)


def read_options(args: argparse.Namespace, **fixed: Any) -> ReadOptions:
    """What the flags say.

    Args:
        args: parsed by a parser with `add_input`.
        fixed: settings that the command decides itself.
    """
    from mamba_slm.core.config import flags_given, resolve
    from mamba_slm.data.reading.options import ReadOptions

    return resolve(ReadOptions, [("command line", {**flags_given(args, ReadOptions), **fixed})])[0]


def input_documents(inputs: list[str], options: ReadOptions, report: ReadReport) -> Iterator[Document]:
    """The documents of all inputs, one after another."""
    from mamba_slm.data.python_library import python_library_documents
    from mamba_slm.data.readers import read_documents

    for name in inputs:
        if name == PYTHON_LIBRARY and not Path(name).exists():
            for document in python_library_documents():
                report.num_files += 1
                report.num_documents += 1
                yield document
        else:
            yield from read_documents(name, options, report=report)


def first_texts(inputs: list[str], options: ReadOptions, max_characters: int) -> Iterator[str]:
    """Texts of the input until they hold so many characters, at least one."""
    from mamba_slm.data.reading.report import ReadReport

    lengths = 0

    def goes_on(document: Document) -> bool:
        nonlocal lengths
        before, lengths = lengths, lengths + len(document.text)
        return before < max_characters

    return (document.text for document in itertools.takewhile(goes_on, input_documents(inputs, options, ReadReport())))


def read_json(report: ReadReport) -> dict[str, Any]:
    """A `ReadReport` for programs."""
    return {
        "num_files": report.num_files,
        "num_documents": report.num_documents,
        "num_empty": report.num_empty,
        "num_problems": report.num_problems,
        "problems": [str(problem) for problem in report.problems],
        "num_repaired": report.num_repaired,
        "num_repaired_characters": report.num_repaired_characters,
        "left_out": dict(report.left_out),
    }
