"""Tables with a column of text: Parquet, CSV and TSV. The other columns become metadata."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

from mamba_slm.core.errors import DataError
from mamba_slm.core.optional import require
from mamba_slm.data.compressed import COMPRESSIONS
from mamba_slm.data.decoding import byte_order_mark, is_single_byte_based
from mamba_slm.data.document import Document
from mamba_slm.data.reading.json_records import missing_key
from mamba_slm.data.reading.source_file import SourceFile, Window

BATCH_ROWS = 512
DELIMITERS = {".csv": ",", ".tsv": "\t"}
LONGEST_FIELD = (1 << 31) - 1  # the csv module's own limit is a C long; the line limit comes first


def parquet_documents(source: SourceFile) -> Iterator[Document | DataError]:
    """One document or problem per row, numbered from 1; row groups are read one after another, some rows at a time."""
    if source.file.suffix.lower() in COMPRESSIONS:
        raise DataError(
            f"{source.file} is a compressed Parquet file, which cannot be read in pieces",
            hint=f"decompress it first (Parquet compresses inside): {source.file.stem}",
        )
    pyarrow = require("pyarrow", extra="data", purpose=f"reading {source.file.name}")
    parquet = require("pyarrow.parquet", extra="data", purpose=f"reading {source.file.name}")
    try:
        with parquet.ParquetFile(source.file, page_checksum_verification=True) as table:
            yield from rows_of_parquet(source, table, pyarrow)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            f"{source.file} is not a valid Parquet file: {' '.join(str(error).split())}",
            hint="copy or download the file again",
        ) from error


def rows_of_parquet(source: SourceFile, table: Any, pyarrow: Any) -> Iterator[Document | DataError]:
    """Documents of an open Parquet file."""
    key = source.options.text_key
    columns = table.schema_arrow.names
    if key not in columns:
        raise missing_key(source, columns, f"{source.file} has no column")
    kind = table.schema_arrow.field(key).type
    if pyarrow.types.is_dictionary(kind):
        kind = kind.value_type
    if not any(
        check(kind) for check in (pyarrow.types.is_string, pyarrow.types.is_large_string, pyarrow.types.is_string_view)
    ):
        raise DataError(
            f"{source.file}: the column {key!r} is not text but {kind}",
            hint="name the column that holds the text: --text-key COLUMN",
        )
    window = source.window or Window(begin=0, end=table.num_row_groups, first_number=1)
    first = window.first_number - 1
    for group in range(window.begin, window.end):
        try:
            yield from rows_of_group(source, table, group, first, pyarrow)
        except (pyarrow.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())
            yield DataError(
                f"{source.file}: row group {group} of {table.num_row_groups} is damaged: {reason}",
                hint="copy or download the file again, or leave the group out: --on-error skip",
            )
        first += table.metadata.row_group(group).num_rows


def rows_of_group(
    source: SourceFile, table: Any, group: int, first: int, pyarrow: Any
) -> Iterator[Document | DataError]:
    """Documents of one row group, whose first row has the number `first + 1`."""
    key = source.options.text_key
    columns = table.schema_arrow.names
    number = first
    for batch in table.iter_batches(batch_size=BATCH_ROWS, row_groups=[group], use_threads=False):
        texts = texts_of_column(batch.column(columns.index(key)), pyarrow)
        names = [name for name in columns if name != key]
        others = [plain_values(batch.column(columns.index(name))) for name in names]
        for text, *values in zip(texts, *others, strict=True):
            number += 1
            if isinstance(text, bytes):
                try:
                    text = source.decode(text, source.place(number), at_start=False, encoding="utf-8")
                except DataError as problem:
                    yield problem
                    continue
            if text is None:
                yield DataError(
                    f"{source.place(number)}: the value of {key!r} is not text but null",
                    hint="leave such rows out: --on-error skip",
                )
                continue
            yield source.document(text, number, dict(zip(names, values, strict=True)))


def texts_of_column(column: Any, pyarrow: Any) -> list[str | bytes | None]:
    """The texts of a batch; those of a batch with wrong UTF-8 as bytes, so that each can be reported."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return column.cast(pyarrow.large_string()).cast(pyarrow.large_binary()).to_pylist()


def plain_values(column: Any) -> list[Any]:
    """Values for metadata; where one is wrong UTF-8 its wrong bytes are replaced: the model does not learn from it."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [plain_value(scalar) for scalar in column]


def plain_value(scalar: Any) -> Any:
    """One of them."""
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return bytes(scalar.as_buffer()).decode(errors="replace")


def csv_documents(source: SourceFile) -> Iterator[Document | DataError]:
    """One document or problem per row, numbered by the line where it begins (the header is line 1)."""
    csv.field_size_limit(LONGEST_FIELD)
    key = source.options.text_key
    with source.open() as stream:
        lines = Lines(source, stream)
        rows = csv.reader(lines, delimiter=delimiter_of(source), strict=True)
        header = next_row(rows, lines)
        if header is None:
            return
        if isinstance(header, DataError):
            raise header
        if key not in header:
            raise missing_key(source, header, f"{source.file} has no column")
        position = header.index(key)
        while True:
            number = lines.number + 1
            row = next_row(rows, lines)
            if row is None:
                return
            if isinstance(row, DataError):
                yield row
                if lines.is_binary:
                    return
            elif len(row) != len(header):
                if row:  # a blank line is nothing
                    yield DataError(
                        f"{source.place(number)} has {len(row)} fields, but the header has {len(header)}",
                        hint="a text with commas or line ends must stand in quotes; leave such rows out: "
                        "--on-error skip",
                    )
            else:
                metadata = {name: value for name, value in zip(header, row, strict=True) if name != key}
                yield source.document(row[position], number, metadata)


def delimiter_of(source: SourceFile) -> str:
    """By the suffix: a comma, or a tab."""
    names = [suffix.lower() for suffix in source.file.suffixes]
    return next(DELIMITERS[name] for name in reversed(names) if name in DELIMITERS)


def next_row(rows: Any, lines: Lines) -> list[str] | DataError | None:
    """The next row, the problem with it, or None at the end."""
    lines.row_bytes = 0
    start = lines.number + 1
    try:
        return next(rows, None)
    except DataError as problem:
        return problem
    except csv.Error as error:
        return DataError(
            f"{lines.source.place(start)} is not valid CSV: {error}",
            hint="correct the row, or leave such rows out: --on-error skip",
        )


class Lines:
    """Decoded lines for the csv module, which joins those of a quoted field; a row has a limit, too."""

    def __init__(self, source: SourceFile, stream: Any):
        self.source = source
        self.number = 0
        self.row_bytes = 0
        self.is_binary = False
        start = stream.peek(4) if hasattr(stream, "peek") else b""
        _, encoding = byte_order_mark(start, source.options.encoding)
        if is_single_byte_based(encoding):
            self.lines = source.numbered_lines(stream)
        else:
            content = stream.read(source.options.max_document_bytes + 1)
            if len(content) > source.options.max_document_bytes:
                raise source.too_long(None, "a table in UTF-16 or UTF-32, which is read as a whole,")
            text = source.decode(content, str(source.file)).encode()
            self.lines = enumerate(text.splitlines(keepends=True), start=1)

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        self.number, line = next(self.lines)
        if isinstance(line, DataError):
            raise line
        self.row_bytes += len(line)
        if self.row_bytes > self.source.options.max_document_bytes:
            raise self.source.too_long(self.number, "the row that ends here (is a quote never closed?)")
        try:
            return self.source.decode(line, self.source.place(self.number), at_start=self.number == 1)
        except DataError:
            self.is_binary = b"\0" in line and self.number == 1
            raise
