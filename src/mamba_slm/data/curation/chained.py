"""The first task of a part: read it, send its documents through the chain, keep what stays for the stages after.

OUT/blocks.bin          what stays, as `blocks.py` writes it
OUT/scores.npy          its scores, uint16
OUT/hashes.npy          hashes of its ids, uint64: the order of documents with equal scores
OUT/removed.jsonl.zst   what goes, with the reasons
OUT/tally.json          counts
OUT/seconds.json        where the time went
OUT/summary.json        the counts of the manifest
"""

from __future__ import annotations

import contextlib
import functools
import gc
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mamba_slm.core.files import folder_written_atomically, write_json_atomic
from mamba_slm.data.curation.blocks import BlockWriter
from mamba_slm.data.curation.chain import Chain
from mamba_slm.data.curation.config import CurateConfig
from mamba_slm.data.curation.contamination.index import BenchmarkIndex
from mamba_slm.data.curation.duplicates.batches import QUALITY_KEY
from mamba_slm.data.curation.judged import Judged
from mamba_slm.data.curation.personal.clean import PersonalData
from mamba_slm.data.curation.personal.config import PersonalConfig
from mamba_slm.data.curation.quantile import document_hashes
from mamba_slm.data.curation.records import lines_file, record_of, removed_line
from mamba_slm.data.curation.signals.score import TOP_SCORE
from mamba_slm.data.curation.tally import Tally
from mamba_slm.data.curation.verdict import Kind
from mamba_slm.data.reading.parts import InputPart
from mamba_slm.data.reading.report import ReadReport

KIND_KEY = "kind"
BLOCKS_FILE = "blocks.bin"
REMOVED_FILE = "removed.jsonl.zst"


@functools.lru_cache(maxsize=8)
def chain_of(config: CurateConfig, kind: Kind, benchmarks: Path | None) -> Chain:
    """The chain of this process for a kind."""
    return Chain(config, kind, None if benchmarks is None else BenchmarkIndex.load(benchmarks))


def chain_part(part: InputPart, *, kind: Kind, config: CurateConfig, benchmarks: Path | None, out: Path) -> None:
    """Write the folder `out`.

    Args:
        part: what is read.
        kind: of its text.
        config: what the stages do.
        benchmarks: the file of an index whose questions are looked for.
    """
    with without_search_for_cycles():
        judge_part(part, chain_of(config, kind, benchmarks), config, out)


def judge_part(part: InputPart, chain: Chain, config: CurateConfig, out: Path) -> None:
    """As `chain_part`, with the chain of this process."""
    start = time.perf_counter()
    report, tally = ReadReport(), Tally()
    chain.seconds.clear()
    scores: list[int] = []
    hashes: list[NDArray[np.uint64]] = [np.zeros(0, np.uint64)]
    with folder_written_atomically(out) as folder:
        with (folder / BLOCKS_FILE).open("wb") as blocks, lines_file(folder / REMOVED_FILE, "wb") as removed:
            writer = BlockWriter(file=blocks)
            for batch in chain.batches(part.documents(report)):
                for one in batch:
                    text = one.document.text.encode()
                    num_bytes = len(text)
                    tally.count_read(num_bytes)
                    if one.removed is None:
                        if one.text is not one.document.text:
                            text = one.text.encode()
                            tally.cleaned_bytes += num_bytes - len(text)
                        if one.changes:
                            tally.changes.update(one.changes)
                        writer.append(text, one.document.id.encode(), kept_record(one, chain.kind))
                    else:
                        removed.write(line_of(one, tally, num_bytes, keep_text=config.keep_rejects))
                kept = [one for one in batch if one.removed is None]
                scores += [one.score_steps for one in kept]
                hashes.append(document_hashes([one.document.id for one in kept]))
            writer.flush()
        steps = np.array(scores, np.uint16)
        np.save(folder / "scores.npy", steps)
        np.save(folder / "hashes.npy", np.concatenate(hashes))
        tally.scores.update((steps.astype(np.int64) * 100 // (TOP_SCORE + 1)).tolist())
        tally.change_examples(masked)
        note_report(tally, report)
        write_json_atomic(folder / "tally.json", tally.to_dict())
        seconds = {**chain.seconds, "reading": time.perf_counter() - start - sum(chain.seconds.values())}
        write_json_atomic(folder / "seconds.json", seconds)
        write_json_atomic(folder / "summary.json", {"documents": tally.read.documents, "stay": len(steps)})


@contextlib.contextmanager
def without_search_for_cycles() -> Iterator[None]:
    """No garbage collection meanwhile: documents hold no cycles, and looking for some takes a twentieth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@functools.cache
def masking() -> PersonalData:
    """Masks every kind of personal data."""
    return PersonalData(PersonalConfig())


def masked(text: str) -> str:
    """A text as reports may show it, whatever is done with personal data in the result."""
    return masking().clean([text])[0].text


def kept_record(one: Judged, kind: Kind) -> bytes:
    """What stays of a document besides its text; its quality and kind are among its metadata from now on."""
    metadata = {**one.document.metadata, QUALITY_KEY: round(one.quality, 5), KIND_KEY: kind}
    return record_of(one.document.id, one.document.source, metadata)


def line_of(one: Judged, tally: Tally, num_bytes: int, *, keep_text: bool) -> bytes:
    """The line of a document that goes, which is counted."""
    document = one.document
    assert one.removed is not None
    tally.count_removed(one.removed, id=document.id, source=document.source, text=document.text, num_bytes=num_bytes)
    record = record_of(document.id, document.source, document.metadata)
    return removed_line(record, one.removed, document.text.encode() if keep_text else None)


def note_report(tally: Tally, report: ReadReport) -> None:
    """What could not be read, and what is no document."""
    tally.problems = [str(problem) for problem in report.problems]
    tally.unread.update(report.left_out)
    for name, count in (
        ("without text", report.num_empty),
        ("not readable", report.num_problems),
        ("repaired, and read", report.num_repaired),
    ):
        if count:
            tally.unread[name] += count
