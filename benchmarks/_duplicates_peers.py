"""Near-duplicates by another library, run in its own Python: `_duplicates_peers.py NAME TEXTS.json`, a JSON line out.

Each does what its documentation shows as its fast way: 128 MinHash values of 5-word shingles, 16 bands of 8, and of
the documents that share a band all but the first go. Nothing is verified. Bands are compared in numpy for all.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

VALUES, BANDS = 128, 16


def daft_signatures(texts: list[str]) -> tuple[Callable[[], np.ndarray], str]:
    """Daft's `normalize` and `minhash` expressions, xxhash; the texts are in its memory before."""
    import daft  # pyright: ignore[reportMissingImports]
    from daft import col  # pyright: ignore[reportMissingImports]
    from daft.functions import minhash, normalize  # pyright: ignore[reportMissingImports]

    frame = daft.from_pydict({"text": texts}).collect()

    def run() -> np.ndarray:
        normal: Any = normalize(col("text"), remove_punct=True, lowercase=True, white_space=True)
        values = minhash(normal, num_hashes=VALUES, ngram_size=5, seed=1, hash_function="xxhash")
        column = frame.select(values.alias("values")).to_arrow()["values"].combine_chunks()
        return column.flatten().to_numpy().reshape(len(texts), VALUES)

    return run, daft.__version__


def rensa_signatures(texts: list[str]) -> tuple[Callable[[], np.ndarray], str]:
    """rensa's R-MinHash; shingles are made in Python, as its examples do."""
    import rensa  # pyright: ignore[reportMissingImports]

    def run() -> np.ndarray:
        rows = []
        for text in texts:
            words = text.lower().split()
            sketch = rensa.RMinHash(num_perm=VALUES, seed=1)
            sketch.update([" ".join(words[i : i + 5]) for i in range(max(1, len(words) - 4))])
            rows.append(sketch.digest())
        return np.array(rows, np.uint32)

    return run, version("rensa")


PEERS = {"daft": daft_signatures, "rensa": rensa_signatures}


def removed_by_bands(values: np.ndarray) -> list[int]:
    """All but the first of the documents that share a band."""
    removed: set[int] = set()
    for band in np.split(values, BANDS, axis=1):
        keys = np.ascontiguousarray(band).view(f"V{band.shape[1] * 4}").ravel()
        _, places = np.unique(keys, return_inverse=True)
        order = np.argsort(places, kind="stable")
        removed.update(order[1:][places[order][1:] == places[order][:-1]].tolist())
    return sorted(removed)


def main() -> None:
    """Run one peer."""
    name, path = sys.argv[1:]
    texts = json.loads(Path(path).read_text(encoding="utf-8"))
    PEERS[name](texts[:50])[0]()
    run, its_version = PEERS[name](texts)
    start = time.process_time()
    removed = removed_by_bands(run())
    print(json.dumps({"version": its_version, "seconds": time.process_time() - start, "removed": removed}))


if __name__ == "__main__":
    main()
