"""Lines that stand in many of the documents that stay are taken out of them, after all other stages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mamba_slm.data.curation.lines.find import Boilerplate
from mamba_slm.data.curation.tally import Tally
from mamba_slm.data.curation.verdict import Kind, Removed

KINDS_WITH_BOILERPLATE: tuple[Kind, ...] = ("web",)
"""Lines that come again are meant to in code, documentation, verses and the forms of a conversation."""

BATCH_BYTES = 1 << 20
SHORTEST = "lines.min_characters"

JudgedDocument = tuple[bytes, bytes, bytes, Removed | None]
"""Text, id and record of a document, and why it goes."""


def without_boilerplate(
    documents: Iterable[JudgedDocument], boilerplate: Boilerplate, tally: Tally, *, min_characters: int
) -> Iterator[JudgedDocument]:
    """The same documents; those that stay without boilerplate, or with it and a reason if too little is left.

    Args:
        tally: counts what is taken out.
        min_characters: shortest text that stays.
    """
    for batch in batches_of(documents, BATCH_BYTES):
        cleaned = iter(boilerplate.without_encoded([text for text, _, _, reason in batch if reason is None]))
        for text, id, record, reason in batch:
            done = None if reason else next(cleaned)
            if done is None:
                yield text, id, record, reason
            elif len(done.text) < min_characters:
                left = Removed(rule=SHORTEST, value=len(done.text), threshold=min_characters, detail="at least")
                yield text, id, record, left
            else:
                encoded = done.text.encode()
                tally.changes["lines of many documents"] += done.lines
                tally.cleaned_bytes += len(text) - len(encoded)
                yield encoded, id, record, None


def batches_of(documents: Iterable[JudgedDocument], batch_bytes: int) -> Iterator[list[JudgedDocument]]:
    """Some documents at a time, about `batch_bytes` of text."""
    waiting: list[JudgedDocument] = []
    size = 0
    for document in documents:
        waiting.append(document)
        size += len(document[0])
        if size >= batch_bytes:
            yield waiting
            waiting, size = [], 0
    if waiting:
        yield waiting
