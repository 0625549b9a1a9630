"""Texts with changed copies for the search for duplicates, and the truth about them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mamba_slm.data.curation.duplicates.batches import DocumentBatch
from mamba_slm.data.curation.duplicates.kernels import kernels
from mamba_slm.data.curation.duplicates.matching import sorted_sides
from mamba_slm.data.curation.duplicates.runs import groups_of


def texts_of(folder: Path, *, characters: int, seed: int = 1) -> list[str]:
    """Pieces of UTF-8 text files, log-normal lengths around 2,000 characters; every fifth again, changed."""
    source = random.Random(seed)
    boilerplate = "Subscribe to our newsletter. All rights reserved. Terms of use, privacy, contact, imprint. " * 2
    texts: list[str] = []
    left = characters
    for path in sorted(folder.rglob("*.txt")):
        try:
            content = path.read_bytes().decode()
        except UnicodeDecodeError:
            continue
        start = 0
        while start < len(content) and left > 0:
            length = min(100_000, int(source.lognormvariate(7.6, 1.0)))
            texts.append(content[start : start + length])
            start, left = start + length, left - length
            if source.random() < 0.2:
                texts.append(changed(texts[-1], boilerplate, source))
                left -= length
    source.shuffle(texts)
    return texts


def changed(text: str, boilerplate: str, source: random.Random) -> str:
    """A copy as the web makes them."""
    kind = source.randrange(5)
    if kind == 0:
        return text
    if kind == 1:
        return text.upper().replace(" ", "  ")
    if kind == 2:
        return boilerplate + text
    share = source.choice([0.002, 0.01, 0.02, 0.04])
    if kind == 3:
        return " ".join("changed" if source.random() < share else word for word in text.split(" "))
    return ". ".join(sentence for sentence in text.split(". ") if source.random() > 2 * share)


def true_pairs(batches: Sequence[DocumentBatch]) -> np.ndarray:
    """[pairs, 2] numbers of documents with a similarity of at least 0.8, by counting every shared shingle."""
    sets = [kernels().shingles(batch.texts) for batch in batches]
    sizes = np.concatenate([each.sizes() for each in sets])
    values = np.concatenate([each.values for each in sets])
    holders = np.repeat(np.arange(len(sizes)), sizes).astype(np.uint64)
    order = np.argsort(values, kind="stable")
    values, holders = values[order], holders[order]
    starts, counts = groups_of(values)
    keys = []
    for count in np.unique(counts).tolist():
        left, right = np.triu_indices(count, 1)
        members = holders[starts[counts == count][:, None] + np.arange(count)]
        pairs = sorted_sides(members[:, left].ravel(), members[:, right].ravel())
        keys.append(pairs[:, 0] << np.uint64(32) | pairs[:, 1])
    pairs, shared = np.unique(np.concatenate(keys), return_counts=True)
    first, second = (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)
    near = 5 * shared >= 4 * (sizes[first] + sizes[second] - shared)
    return np.stack([first[near], second[near]], axis=1)


def quality_of(removed: np.ndarray, pairs: np.ndarray, documents: int) -> dict[str, Any]:
    """Recall of true pairs, and how many documents go that have no true duplicate at all."""
    gone, has_duplicate = np.zeros(documents, bool), np.zeros(documents, bool)
    gone[removed], has_duplicate[pairs] = True, True
    return {
        "true_pairs": len(pairs),
        "recall": float(gone[pairs].any(axis=1).mean()),
        "removed_without_true_duplicate": int((gone & ~has_duplicate).sum()),
    }
