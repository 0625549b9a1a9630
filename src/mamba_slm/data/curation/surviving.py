"""The documents of a part that the chain and the quality cut have left: what is looked through for duplicates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mamba_slm.data.curation.blocks import Block, read_blocks, selected
from mamba_slm.data.curation.chained import BLOCKS_FILE
from mamba_slm.data.curation.duplicates.batches import DocumentBatch
from mamba_slm.data.curation.quantile import Cut
from mamba_slm.data.curation.signals.score import TOP_SCORE
from mamba_slm.data.curation.verdict import Kind


@dataclass(frozen=True, kw_only=True)
class Survivors:
    """One of the parts that `find_duplicates` reads."""

    name: str
    folder: Path
    """Of its first task."""

    kind: Kind
    cut: Cut

    def steps(self) -> NDArray[np.uint16]:
        """The scores of all documents that passed the chain."""
        return np.load(self.folder / "scores.npy", mmap_mode="r")

    def stays(self) -> NDArray[np.bool_]:
        """Which of them the quality cut leaves."""
        return ~self.cut.is_below(self.steps(), np.load(self.folder / "hashes.npy", mmap_mode="r"))

    def blocks(self) -> Iterator[tuple[Block, NDArray[np.bool_]]]:
        """All documents that passed the chain, and which of them the quality cut leaves."""
        stays, start = self.stays(), 0
        for block in read_blocks(self.folder / BLOCKS_FILE):
            yield block, stays[start : start + len(block)]
            start += len(block)

    def batches(self, batch_bytes: int) -> Iterator[DocumentBatch]:
        """As `duplicates.parts.Part.batches`; blocks have their own size."""
        steps, start = self.steps(), 0
        for block, stays in self.blocks():
            scores = np.asarray(steps[start : start + len(block)])[stays]
            start += len(block)
            if len(scores):
                yield DocumentBatch(
                    texts=selected(block.texts, stays),
                    ids=selected(block.ids, stays),
                    qualities=scores.astype(np.float32) / np.float32(TOP_SCORE),
                )


def find_cuts(folders: Mapping[Kind, list[Path]], share: float) -> dict[Kind, Cut]:
    """For each kind, where the worst share of the documents ends that passed the chain.

    Every round reads ten bytes per document, of one part at a time.
    """
    cuts: dict[Kind, Cut] = {}
    for kind, parts in folders.items():
        cut = Cut.begin(share)
        while not cut.is_found:
            histogram = np.zeros(1 << 16, np.int64)
            for folder in parts:
                steps, hashes = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("scores", "hashes"))
                histogram += cut.histogram(steps, hashes)
            cut = cut.narrowed(histogram)
        cuts[kind] = cut
    return cuts
