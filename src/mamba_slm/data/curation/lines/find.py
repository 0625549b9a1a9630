"""Find the lines of a corpus that stand in too many documents, as tasks that any engine runs.

    stage     a task per      reads                  writes
    counted   part            the documents          hashes of lines, each with its number of documents, sorted
    merged    range of keys   what was counted       the hashes of boilerplate

How the work is cut depends on the parts and the config only, and counts are added in any order: the result is the same
for any number of workers and any division of the documents. A task holds `memory_bytes` of hashes; the result, eight
bytes for each line that stands in more than `max_documents` documents, is held by whoever takes them out.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mamba_slm.core.errors import DataError
from mamba_slm.core.files import folder_written_atomically, write_json_atomic
from mamba_slm.data.curation.duplicates.batches import Texts
from mamba_slm.data.curation.duplicates.find import path_of
from mamba_slm.data.curation.duplicates.parts import Part
from mamba_slm.data.curation.duplicates.runs import key_ranges
from mamba_slm.data.curation.lines.config import LinesConfig
from mamba_slm.data.curation.lines.definition import without_lines
from mamba_slm.data.curation.lines.hashing import lines_of
from mamba_slm.data.engine.local import local_engine
from mamba_slm.data.engine.task import RunTasks, Task

FORMAT_VERSION = 1
BATCH_BYTES = 1 << 20
HELD_BYTES = 32
"""A hash in memory, with its count and what sorting it needs."""


@dataclass(frozen=True, kw_only=True)
class Without:
    """A text and what was taken out of it."""

    text: str
    """The same object where nothing was taken out."""

    lines: int = 0

    characters: int = 0
    """Of the lines taken out, and of the blank ones that went with them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Boilerplate:
    """The lines to take out."""

    config: LinesConfig
    hashes: NDArray[np.uint64]
    """`line_hash` of each, ascending."""

    def without(self, texts: Sequence[str]) -> list[Without]:
        """Take boilerplate out of texts, each alone.

        Raises:
            OutOfMemoryError: as `lines_of`.
        """
        done = self.without_encoded([text.encode() for text in texts])
        return [found or Without(text=text) for text, found in zip(texts, done, strict=True)]

    def without_encoded(self, texts: Sequence[bytes]) -> list[Without | None]:
        """`without` of texts in UTF-8; None where nothing is taken out, which costs no decoding.

        Raises:
            OutOfMemoryError: as `lines_of`.
        """
        done: list[Without | None] = [None] * len(texts)
        if not len(self.hashes) or not texts:
            return done
        lines = lines_of(Texts.of(texts))
        place = np.searchsorted(self.hashes[:-1], lines.hashes)
        goes = lines.long_enough(self.config) & (self.hashes[place] == lines.hashes)
        counts = np.add.reduceat(goes, lines.starts[:-1], dtype=np.int64)
        for number in np.flatnonzero(counts).tolist():
            text = texts[number].decode()
            kept = without_lines(text, goes[lines.starts[number] : lines.starts[number + 1]].tolist())
            done[number] = Without(text=kept, lines=int(counts[number]), characters=len(text) - len(kept))
        return done


@dataclass(frozen=True, kw_only=True)
class BoilerplateFiles:
    """Where the lines to take out are; small enough to be sent to every task."""

    config: LinesConfig
    folders: tuple[Path, ...]
    """What `merge_counts` has written, in the order of the ranges."""

    def read(self) -> Boilerplate:
        """All of them in memory."""
        hashes = [np.load(folder / "hashes.npy") for folder in self.folders]
        return Boilerplate(config=self.config, hashes=np.concatenate([np.zeros(0, np.uint64), *hashes]))


def find_boilerplate(
    parts: Sequence[Part],
    folder: Path,
    config: LinesConfig | None = None,
    *,
    workers: int = 1,
    run_tasks: RunTasks | None = None,
) -> BoilerplateFiles:
    """Find the boilerplate of a corpus, as `definition.py` says. Copies of documents would count: leave them out.

    Args:
        parts: the documents; each part is read once.
        folder: where intermediate files go; what an earlier call there has finished is not done again.
        workers: processes of this machine.
        run_tasks: something else to run the tasks of a stage; then `workers` does not matter.

    Raises:
        DataError: the folder holds work for other documents, or with another config.
    """
    if run_tasks is None:
        with local_engine(workers) as engine:
            return find_boilerplate(parts, folder, config, run_tasks=engine.for_stage("lines"))
    config = config or LinesConfig()
    plan = {"format_version": FORMAT_VERSION, "config": asdict(config), "parts": [part.name for part in parts]}
    start_or_continue(folder / "plan.json", plan)
    counted = [path_of(folder / "counted", number) for number in range(len(parts))]
    run_tasks(
        [
            Task(out=out, call=functools.partial(count_part, part, config, out))
            for part, out in zip(parts, counted, strict=True)
        ]
    )
    records = sum(json.loads((path / "summary.json").read_text())["hashes"] for path in counted)
    ranges = key_ranges(max(1, -(-records * HELD_BYTES * 5 // (config.memory_bytes * 4))))
    merged = [path_of(folder / "merged", number) for number in range(len(ranges))]
    run_tasks(
        [
            Task(out=out, call=functools.partial(merge_counts, counted, keys, config, out))
            for keys, out in zip(ranges, merged, strict=True)
        ]
    )
    return BoilerplateFiles(config=config, folders=tuple(merged))


def start_or_continue(path: Path, plan: dict[str, object]) -> None:
    """Record what is looked for, or check that it is the same."""
    if not path.exists():
        write_json_atomic(path, plan)
    elif json.loads(path.read_text(encoding="utf-8")) != plan:
        raise DataError(
            f"{path.parent} holds work for other documents, another config or another version",
            hint=f"delete it, or choose another folder: rm -r {path.parent}",
        )


def count_part(part: Part, config: LinesConfig, out: Path) -> None:
    """Write the hashes of a part's lines and in how many of its documents each stands, as sorted runs."""
    limit = config.memory_bytes // HELD_BYTES
    with folder_written_atomically(out) as folder:
        waiting: list[NDArray[np.uint64]] = []
        held = written = total = 0

        def write_run() -> None:
            nonlocal waiting, held, written, total
            hashes, counts = np.unique(np.concatenate([np.zeros(0, np.uint64), *waiting]), return_counts=True)
            np.save(folder / f"hashes-{written:04d}.npy", hashes)
            np.save(folder / f"counts-{written:04d}.npy", counts.astype(np.uint32))
            waiting, held, written, total = [], 0, written + 1, total + len(hashes)

        for batch in part.batches(BATCH_BYTES):
            waiting.append(once_per_text(batch.texts, config))
            held += len(waiting[-1])
            if held >= limit:
                write_run()
        write_run()
        write_json_atomic(folder / "summary.json", {"hashes": total, "runs": written})


def once_per_text(texts: Texts, config: LinesConfig) -> NDArray[np.uint64]:
    """The hashes of lines that count, each once for every text that has it."""
    lines = lines_of(texts)
    wanted = lines.long_enough(config)
    hashes, text_of = lines.hashes[wanted], lines.texts()[wanted]
    order = np.lexsort((hashes, text_of))
    hashes, text_of = hashes[order], text_of[order]
    is_new = np.ones(len(hashes), bool)
    is_new[1:] = (hashes[1:] != hashes[:-1]) | (text_of[1:] != text_of[:-1])
    return hashes[is_new]


def merge_counts(counted: Sequence[Path], keys: tuple[int, int], config: LinesConfig, out: Path) -> None:
    """Write the hashes of a range that stand in more than `max_documents` documents of all parts together."""
    hashes, counts = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint32)]
    for folder in counted:
        for path in sorted(folder.glob("hashes-*.npy")):
            every = np.load(path, mmap_mode="r")
            start = np.searchsorted(every, np.uint64(keys[0]), "left")
            end = np.searchsorted(every, np.uint64(keys[1]), "right")
            hashes.append(np.array(every[start:end]))
            number = np.load(path.with_name(path.name.replace("hashes", "counts")), mmap_mode="r")
            counts.append(np.array(number[start:end]))
    distinct, place = np.unique(np.concatenate(hashes), return_inverse=True)
    documents = np.bincount(place, np.concatenate(counts), minlength=len(distinct))
    with folder_written_atomically(out) as folder:
        found = distinct[documents > config.max_documents]
        np.save(folder / "hashes.npy", found)
        write_json_atomic(folder / "summary.json", {"hashes": len(found)})
