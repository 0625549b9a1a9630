"""Keeping part of a text for validation: documents chosen by a hash of their id, or the end of a single long one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mamba_slm.core.errors import DataError
from mamba_slm.data.document import Document
from mamba_slm.data.readers import read_documents
from mamba_slm.data.reading.options import ReadOptions
from mamba_slm.data.reading.report import ReadReport
from mamba_slm.data.splits import is_held_out

Documents = Callable[[], Iterator[Document]]
"""Reads the same documents again at every call."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Documents of one text source in two parts."""

    train: Documents
    validation: Documents | None


def split_documents(
    path: Path, share: float, options: ReadOptions | None = None, *, say: Callable[[str], None] = lambda text: None
) -> Split:
    """Hold out documents by the hash of their id; of a source too small for that, the end of its longest document.

    Args:
        path: text.
        share: of the documents to hold out, in [0, 1); 0 holds nothing out.
        options: how the text is read.
        say: takes what was skipped, repaired or left out, once.

    Raises:
        DataError: the source holds no text.
    """

    def documents(report: ReadReport | None = None) -> Iterator[Document]:
        return read_documents(path, options, report=report or ReadReport())

    report = ReadReport()
    sizes = [(document.id, len(document.text)) for document in documents(report)]
    if report.num_problems or report.num_repaired or report.left_out:
        say(f"{path}: {report}")
    total = sum(size for _, size in sizes)
    if total == 0:
        raise DataError(f"{path} holds no text", hint="give a file or folder with text in it")
    if share == 0:
        return Split(train=documents, validation=None)
    held_out = sum(size for name, size in sizes if is_held_out(name, share))
    if share / 4 <= held_out / total <= min(0.5, 4 * share):
        return Split(
            train=lambda: (document for document in documents() if not is_held_out(document.id, share)),
            validation=lambda: (document for document in documents() if is_held_out(document.id, share)),
        )
    longest = max(sizes, key=lambda entry: entry[1])[0]

    def parts(keep_tail: bool) -> Iterator[Document]:
        for document in documents():
            if document.id != longest:
                if not keep_tail:
                    yield document
                continue
            head, tail = cut_tail(document.text, max(1, round(total * share)))
            if keep_tail:
                yield replace(document, id=f"{document.id} (end)", text=tail)
            elif head:
                yield replace(document, text=head)

    return Split(train=lambda: parts(False), validation=lambda: parts(True))


def cut_tail(text: str, tail_characters: int) -> tuple[str, str]:
    """Cut about the last characters off, at the line end before them; at most half of the text."""
    place = max(len(text) - tail_characters, len(text) // 2)
    line_end = text.rfind("\n", len(text) // 2, place) + 1
    place = line_end or place
    return text[:place], text[place:]
