"""Files to documents: text, JSON, tables, dumps and web archives, plain or compressed, alone or in folders.

    notes.txt, main.py, …       one document per file
    data.jsonl, data.ndjson     one document per line: an object with the text under `text_key`, or a string
    data.json                   a list of such records, one record, or JSON Lines under the wrong name
    data.parquet                one document per row, the text in the column `text_key`
    data.csv, data.tsv          the same; the first row names the columns
    …pages-articles.xml         Wikipedia's dump: one document per article
    Posts.xml                   Stack Exchange's dump: one document per question with its answers
    crawl.warc                  web archive: one document per page, its text extracted
    a plugin's suffix           what its reader makes of it
    any but Parquet + .gz, .zst, .bz2, .xz    decompressed on the way

Text comes out exactly as it is in the file, line ends included, where it is not made from markup. Nothing is repaired
or replaced unless asked for: what cannot be read stops the reading with its place, or with on_error="skip" is left out
and counted. Memory stays bounded by `ReadOptions.max_document_bytes`, whatever the size of a file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from mamba_slm.core.errors import DataError
from mamba_slm.core.plugins import find_plugin, load_plugin
from mamba_slm.data import folders
from mamba_slm.data.compressed import open_bytes, without_compression
from mamba_slm.data.document import Document
from mamba_slm.data.folders import find_files
from mamba_slm.data.reading.json_records import json_documents, json_lines_documents
from mamba_slm.data.reading.options import ReadOptions
from mamba_slm.data.reading.plain_text import text_documents
from mamba_slm.data.reading.report import ReadReport
from mamba_slm.data.reading.source_file import SourceFile
from mamba_slm.data.reading.stack_exchange import stack_exchange_documents
from mamba_slm.data.reading.tables import csv_documents, parquet_documents
from mamba_slm.data.reading.warc import warc_documents
from mamba_slm.data.reading.wikipedia import wikipedia_documents

Reader = Callable[[SourceFile], Iterator[Document | DataError]]

READERS: dict[frozenset[str], Reader] = {
    folders.JSON_LINES_SUFFIXES: json_lines_documents,
    folders.JSON_SUFFIXES: json_documents,
    folders.PARQUET_SUFFIXES: parquet_documents,
    folders.TABLE_SUFFIXES: csv_documents,
    folders.WARC_SUFFIXES: warc_documents,
}
XML_READERS: dict[str, Reader] = {"<mediawiki": wikipedia_documents, "<posts>": stack_exchange_documents}
FIRST_LOOK_BYTES = 4096
log = logging.getLogger(__name__)


def read_documents(
    path: Path | str, options: ReadOptions | None = None, *, report: ReadReport | None = None
) -> Iterator[Document]:
    """Read the documents of a file or a folder, in an order that is the same everywhere.

    Ids are the path inside the folder, with `:LINE`, `:ITEM`, `:ROW` or the record's own number; documents without text
    are left out.

    Args:
        path: a file, or a folder that is searched with all folders inside it.
        options: which files, where their text is, what happens at a problem.
        report: filled while reading. Without one, what is skipped is logged as warnings.

    Raises:
        DataError: no such path, nothing to read, or a problem: empty, binary or wrongly encoded file, damaged
            compression, invalid JSON, a record without text. The message has the place, the hint what to do.
        MissingDependencyError: the format needs a package that is not installed.
    """
    options = ReadOptions() if options is None else options
    path = Path(path)
    files, other_files = find_files(path, options.pattern)
    logs_problems = report is None
    report = ReadReport() if report is None else report
    report.other_files.update(other_files)
    return documents_of_files(path, files, options, report, logs_problems)


def documents_of_files(
    path: Path, files: list[Path], options: ReadOptions, report: ReadReport, logs_problems: bool
) -> Iterator[Document]:
    """The generator behind `read_documents`, whose arguments are checked before the first document is asked for."""
    before, num_kept = report.num_documents, len(report.problems)
    for file in files:
        source = SourceFile(file=file, name=name_of(file, path), source=str(path), options=options, report=report)
        yield from counted_documents(source, logs_problems)
        report.num_files += 1
    if report.num_documents == before:
        if len(files) == 1 and not report.num_problems and not report.left_out:
            raise DataError(f"{files[0]} is empty", hint="give a file with some text in it")
        left_out = f"{report.left_out.total()} records that are no documents, " if report.left_out else ""
        first = report.problems[num_kept] if len(report.problems) > num_kept else None
        raise DataError(
            f"no text in {path}: {len(files)} files, {report.num_empty} documents without text, {left_out}"
            f"{report.num_problems} that could not be read" + (f"; the first: {first}" if first else ""),
            hint=first.hint if first else "give files with some text in them",
        )


def name_of(file: Path, path: Path) -> str:
    """How the ids of a file's documents begin: its path inside the folder `path`, or its own name."""
    return file.name if file == path else file.relative_to(path).as_posix()


def counted_documents(source: SourceFile, logs_problems: bool = False) -> Iterator[Document]:
    """The documents of one file with text in them; the rest is counted in the report, or raised as the options say."""
    report = source.report
    for found in documents_of_file(source):
        if isinstance(found, DataError):
            if source.options.on_error == "stop":
                raise found
            report.add_problem(found)
            if logs_problems:
                log.warning("left out: %s", found)
        elif not found.text or found.text.isspace():
            report.num_empty += 1
        else:
            report.num_documents += 1
            yield found


def documents_of_file(source: SourceFile) -> Iterator[Document | DataError]:
    """Documents and problems of one file. After a problem with the file itself nothing more comes."""
    try:
        yield from reader_of(source)(source)
    except DataError as problem:
        yield problem


def reader_of(source: SourceFile) -> Reader:
    """By the suffix; XML files by how they begin, for dumps have the suffix of any other XML file."""
    suffix = without_compression(source.file).suffix.lower()
    for suffixes, reader in READERS.items():
        if suffix in suffixes:
            return reader
    if suffix not in folders.KNOWN_SUFFIXES and find_plugin("readers", suffix):
        return load_plugin("readers", suffix)
    if suffix == ".xml" or suffix.startswith(folders.DUMP_SUFFIX):
        with open_bytes(source.file) as stream:
            start = stream.read(FIRST_LOOK_BYTES).replace(b"\0", b"").decode(errors="replace")  # UTF-16, too
        for root, reader in XML_READERS.items():
            if root in start:
                return reader
    return text_documents
