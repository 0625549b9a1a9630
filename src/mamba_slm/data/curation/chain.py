"""What happens to each document by itself, stage after stage; what one stage removes no later one sees.

Every text is judged alone, so batches may be cut anywhere.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from mamba_slm.data.curation.config import CurateConfig
from mamba_slm.data.curation.contamination.index import BenchmarkIndex
from mamba_slm.data.curation.judged import Judged
from mamba_slm.data.curation.signals.lengths import cut_long
from mamba_slm.data.curation.steps import Step, steps_of
from mamba_slm.data.curation.verdict import Kind
from mamba_slm.data.document import Document

BATCH_CHARACTERS = 1 << 20


class Chain:
    """All stages for one kind of source, built once per process."""

    def __init__(self, config: CurateConfig, kind: Kind, benchmarks: BenchmarkIndex | None = None):
        self.kind: Kind = kind
        self.steps: tuple[Step, ...] = steps_of(config, kind, benchmarks)
        self.longest: int | None = config.rules.books.max_characters if kind == "books" else None
        self.seconds: Counter[str] = Counter()
        """Time spent so far, by stage."""

    def judge(self, documents: Sequence[Document]) -> list[Judged]:
        """What becomes of some documents, in their order; books come out as their parts."""
        batch = [Judged(document=part, text=part.text) for one in documents for part in self.parts_of(one)]
        left = batch
        for step in self.steps:
            if not left:
                break
            start = time.perf_counter()
            step.apply(left)
            left = [one for one in left if one.removed is None]
            self.seconds[step.name] += time.perf_counter() - start  # pyright: ignore[reportArgumentType]
        return batch

    def batches(self, documents: Iterable[Document]) -> Iterator[list[Judged]]:
        """What becomes of any number of documents, batch by batch, in their order."""
        waiting: list[Document] = []
        characters = 0
        for document in documents:
            waiting.append(document)
            characters += len(document.text)
            if characters >= BATCH_CHARACTERS:
                yield self.judge(waiting)
                waiting, characters = [], 0
        yield self.judge(waiting)

    def parts_of(self, document: Document) -> list[Document]:
        """The document; a book longer than allowed as parts whose ids end in #1, #2, …"""
        if self.longest is None or len(document.text) <= self.longest:
            return [document]
        pieces = cut_long(document.text, max_characters=self.longest)
        return [
            replace(document, text=piece, id=f"{document.id}#{number}") for number, piece in enumerate(pieces, start=1)
        ]
