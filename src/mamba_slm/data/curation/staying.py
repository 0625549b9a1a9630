"""The documents of a part that nothing removes: what is looked through for lines that stand in many of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mamba_slm.data.curation.boilerplate import batches_of
from mamba_slm.data.curation.duplicates.batches import DocumentBatch, Texts
from mamba_slm.data.curation.duplicates.verdicts import Duplicates
from mamba_slm.data.curation.surviving import Survivors
from mamba_slm.data.curation.written import judged_documents


@dataclass(frozen=True, kw_only=True)
class Staying:
    """One of the parts that `find_boilerplate` reads; copies of documents are not among them."""

    part: Survivors
    number: int
    """Its place among the parts in which duplicates were looked for."""

    duplicates: Duplicates | None

    @property
    def name(self) -> str:
        """That of the part."""
        return self.part.name

    def batches(self, batch_bytes: int) -> Iterator[DocumentBatch]:
        """As `duplicates.parts.Part.batches`."""
        for batch in batches_of(judged_documents(self.part, self.number, self.duplicates), batch_bytes):
            stay = [(text, id) for text, id, _, reason in batch if reason is None]
            texts, ids = (Texts.of(column) for column in zip(*stay, strict=True)) if stay else (Texts.of([]),) * 2
            yield DocumentBatch(texts=texts, ids=ids, qualities=np.zeros(len(stay), np.float32))
