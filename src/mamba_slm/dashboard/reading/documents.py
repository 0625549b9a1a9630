"""What stands in a file, folder or shards of tokens, one document or conversation after another."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamba_slm.core.errors import ConfigError, DataError, MambaSlmError
from mamba_slm.core.units import format_bytes
from mamba_slm.dashboard.reading.facts import version_of
from mamba_slm.dashboard.reading.places import SHARDS
from mamba_slm.data.folders import find_files
from mamba_slm.data.reading.options import ReadOptions
from mamba_slm.data.reading.report import ReadReport
from mamba_slm.data.reading.source_file import SourceFile

if TYPE_CHECKING:
    from mamba_slm.data.conversations.example import Conversation
    from mamba_slm.text.tokenizer import Tokenizer

MOST_DOCUMENT_BYTES = 64 << 20
MOST_JSON_BYTES = 64 << 20
MOST_PACKED_BYTES = 1 << 20
"""Of a .json file that is packed: two hundred times as much may come out of it."""
MOST_FILES = 500
"""Of a folder, whose changes are noticed."""
LOOKED_AT = 100
"""Records by which conversations are told from text."""
RECORD_SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet", ".arrow")
PLAIN = "text"


@dataclass(frozen=True, kw_only=True)
class Item:
    """A document, a conversation, or why there is none."""

    id: str
    text: str = ""
    """As one reads it; what is searched."""
    raw: str | None = None
    """The record as it stands in the file; None where the text is all."""
    conversation: Conversation | None = None
    ids: tuple[int, ...] | None = None
    """Of shards: the tokens as they are trained on."""
    problem: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A source of items."""

    kind: str
    """text, conversations, or token shards."""
    form: str
    """How it is written, in words."""
    version: str
    """Changes with the files."""
    begin: Callable[[int], tuple[Iterator[Item], int]]
    """Opens it for reading from an item on; the number of the first item that comes, which may be an earlier one."""
    count: int | None = None
    """Items, where that is known."""


def open_source(
    path: Path, *, shows: Callable[[Path], bool], tokenizer: Tokenizer | None = None, text_key: str = "text"
) -> Opened:
    """Look at what a path is.

    Args:
        shows: whether a file may be shown: a folder may hold links to elsewhere.
        tokenizer: turns the tokens of shards into text.

    Raises:
        MambaSlmError: nothing to read there, or a tokenizer other than that of the shards.
    """
    shards = next((folder for folder in (path, path / "train") if (folder / SHARDS).is_file()), None)
    if shards is not None:
        require_shown_shards(shards, shows)
        return open_shards(shards, tokenizer)
    files = [file for file in find_files(path)[0] if shows(file.resolve())]
    if not files:
        raise DataError(f"there is nothing to read in {path.name}")
    if suffix_of(files[0]) in RECORD_SUFFIXES and (found := open_conversations(path, shows)) is not None:
        return found
    options = ReadOptions(on_error="skip", max_document_bytes=MOST_DOCUMENT_BYTES, text_key=text_key)
    kinds = sorted({suffix_of(file) or "no suffix" for file in files})
    form = f"{len(files):,} files: {', '.join(kinds[:6])}" if len(files) > 1 else f"text in {kinds[0]}"
    version = version_of(*files[:MOST_FILES])
    return Opened(kind="text", form=form, version=version, begin=lambda _: (documents(path, files, options), 0))


def suffix_of(file: Path) -> str:
    """The suffix that says how the content is written."""
    from mamba_slm.data.compressed import without_compression

    return without_compression(file).suffix.lower()


def documents(path: Path, files: list[Path], options: ReadOptions) -> Iterator[Item]:
    """The texts, and in their places what could not be read."""
    from mamba_slm.data.readers import documents_of_file, name_of

    for file in files:
        source = SourceFile(file=file, name=name_of(file, path), source=str(path), options=options, report=ReadReport())
        for found in documents_of_file(source):
            if isinstance(found, DataError):
                yield Item(id=source.name, problem=said(found))
            elif found.text and not found.text.isspace():
                yield Item(id=found.id, text=found.text, metadata=dict(found.metadata))


def open_conversations(path: Path, shows: Callable[[Path], bool]) -> Opened | None:
    """The conversations; None where the records are plain text or nothing that is known.

    Raises:
        MambaSlmError: a file is damaged.
    """
    from mamba_slm.data.conversations.read import CONVERSATION_FORMS, told
    from mamba_slm.data.conversations.records import files_of, records_of_file

    try:
        files = [file for file in files_of(path, None) if shows(file.resolve())]
    except ConfigError as error:
        raise DataError(error.message, hint="choose the folder or the file of one of them") from error
    for file in files:
        most = MOST_JSON_BYTES if file.suffix.lower() == ".json" else MOST_PACKED_BYTES
        if suffix_of(file) == ".json" and file.stat().st_size > most:
            raise DataError(
                f"{file.name} has {format_bytes(file.stat().st_size)}, and a .json file is read as a whole",
                hint="write it as JSON Lines, a record in a line",
            )

    def records() -> Iterator[Any]:
        for file in files:
            name = file.name if file == path else file.relative_to(path).as_posix()
            yield from records_of_file(file, name, most_bytes=MOST_DOCUMENT_BYTES)

    try:
        form, sign = told(list(itertools.islice(records(), LOOKED_AT)), CONVERSATION_FORMS, path.name)
    except DataError:
        return None  # not known as conversations: what is wrong with it as text, its reader says
    if form.name == PLAIN:
        return None

    def conversations() -> Iterator[Item]:
        for found in records():
            yield from conversations_in(found, form)

    return Opened(
        kind="conversations",
        form=f"{form.name}, told by {sign}",
        version=version_of(*files[:MOST_FILES]),
        begin=lambda _: (conversations(), 0),
    )


def conversations_in(found: Any, form: Any) -> Iterator[Item]:
    """What a record comes to."""
    from mamba_slm.data.conversations.example import Problem, Unusable
    from mamba_slm.data.conversations.read import record_of

    if isinstance(found, Problem):
        yield Item(id=found.origin, problem=found.what)
        return
    origin, record = found
    raw = json.dumps(record, ensure_ascii=False, indent=2, default=str)
    try:
        read = form.read(record_of(record), origin)
    except Unusable as problem:
        yield Item(id=origin, text=raw, raw=raw, problem=f"left out of training, {problem.kind}: {problem.what}")
        return
    for conversation in read:
        text = "\n".join(f"{one['role']}: {one['content']}" for one in conversation.messages)
        yield Item(id=conversation.origin, text=text, raw=raw, conversation=conversation)


def require_shown_shards(folder: Path, shows: Callable[[Path], bool]) -> None:
    """Refuse shards whose manifest names files that may not be shown: any file could be read as numbers.

    Raises:
        DataError: it does, or is damaged.
    """
    from mamba_slm.data.shard_format import read_manifest

    manifest = folder / SHARDS
    if not shows(manifest.resolve()) or manifest.stat().st_size > MOST_JSON_BYTES:
        raise DataError(f"{manifest} may not be shown, or is too long")
    for file in read_manifest(folder).files:
        if not shows((folder / file.name).resolve()):
            raise DataError(f"{folder} names a file that lies elsewhere: {file.name[:100]}")


def open_shards(folder: Path, tokenizer: Tokenizer | None) -> Opened:
    """The documents of token shards.

    Raises:
        DataError: damaged, or made with another tokenizer.
    """
    from mamba_slm.data.inspect import check_same_tokenizer
    from mamba_slm.data.shards import TokenShards

    shards = TokenShards.open(folder, verify=False)
    if tokenizer is not None:
        check_same_tokenizer(shards, tokenizer)

    def from_number(first: int) -> Iterator[Item]:
        for number in range(first, shards.num_documents):
            ids = tuple(shards.document(number).tolist())
            text = tokenizer.decode(ids) if tokenizer else " ".join(map(str, ids))
            yield Item(id=f"document {number}", text=text, ids=ids)

    form = f"tokens of a vocabulary of {shards.vocab_size:,}"
    return Opened(
        kind="token shards",
        form=form,
        version=version_of(folder / SHARDS),
        begin=lambda first: (from_number(first), min(first, shards.num_documents)),
        count=shards.num_documents,
    )


def said(error: MambaSlmError) -> str:
    """An error in one line."""
    return f"{error.message} ({error.hint})" if error.hint else error.message
