"""How files are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.core.units import parse_count
from mamba_slm.data.compressed import MAX_EXPANSION
from mamba_slm.data.decoding import check_encoding

OnError = Literal["stop", "skip"]
EncodingErrors = Literal["report", "repair"]
Markup = Literal["plain", "raw"]


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Which files of a folder are read, where their text is, and what happens at a problem."""

    pattern: str | None = None
    """Files of a folder, separated by commas: '*.md,docs/*.txt,!*_old.txt'."""

    text_key: str = "text"
    """Key of the text in JSON, name of its column in Parquet, CSV and TSV."""

    encoding: str = "utf-8"
    """Of files without a byte order mark, such as latin-1."""

    encoding_errors: EncodingErrors = "report"
    """Wrong bytes: report them as a problem, or repair (read them as Windows-1252) and count what was repaired."""

    on_error: OnError = "stop"
    """At a file or record that cannot be read: stop, or skip it and count it."""

    markup: Markup = "plain"
    """Wiki pages, Stack Exchange posts and web pages: as plain text, or with their markup as it is."""

    max_document_bytes: Annotated[int, parse_count] = 1 << 28
    """Longest line, record or .json file, which bounds the memory; a longer plain text is cut at line ends."""

    max_expansion: int = MAX_EXPANSION
    """Refuse a compressed file that gives more than so many times its size, beyond 64 MiB."""

    def __post_init__(self) -> None:
        for name, value, known in (
            ("on_error", self.on_error, get_args(OnError)),
            ("encoding_errors", self.encoding_errors, get_args(EncodingErrors)),
            ("markup", self.markup, get_args(Markup)),
        ):
            if value not in known:
                raise UnknownNameError(name, value, known)
        check_encoding(self.encoding)
        for name, number in (("max_document_bytes", self.max_document_bytes), ("max_expansion", self.max_expansion)):
            if number < 1:
                raise ConfigError(f"{name} must be positive, got {number}")
