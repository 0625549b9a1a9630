"""Near-duplicates on one core: every stage, memory, recall against exact truth, and the plan for a billion documents.

python benchmarks/data_duplicates.py ../shared/data/corpora        texts of a folder, with changed copies put in
python benchmarks/data_duplicates.py FOLDER --peer daft=VENV/bin/python --peer rensa=VENV/bin/python
python benchmarks/data_duplicates.py FOLDER --kernel numpy         without compiled code
python benchmarks/data_duplicates.py --documents 5M                a synthetic corpus of short texts instead
python benchmarks/data_duplicates.py FOLDER --json --plan 1B --workers 32

Seconds are those of the processor, in this process alone; 1 token = 4.1 bytes. Texts are in memory, both times they
are read: reading files is measured elsewhere. Peers run on the same texts, in their own Python.
Truth is every pair that shares a shingle, counted exactly.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from _duplicates_corpus import quality_of, texts_of, true_pairs

from mamba_slm.core.units import format_bytes, parse_count
from mamba_slm.data.curation.duplicates.batches import DocumentBatch, Texts, batches_of
from mamba_slm.data.curation.duplicates.config import MIB, DuplicatesConfig
from mamba_slm.data.curation.duplicates.find import find_duplicates
from mamba_slm.data.curation.duplicates.kernels import KernelChoice, kernels
from mamba_slm.data.curation.duplicates.plan import MeasuredSearch, SearchPlan
from mamba_slm.data.curation.duplicates.runs import LAST_KEY, Run, RunWriter, read_records, runs_of
from mamba_slm.data.curation.duplicates.signing import BATCH_BYTES
from mamba_slm.data.curation.duplicates.synthetic import SyntheticPart, synthetic_parts
from mamba_slm.data.document import Document
from mamba_slm.data.engine.task import Task

TOKEN_BYTES = 4.1
PEERS = Path(__file__).with_name("_duplicates_peers.py")
PART_DOCUMENTS = 250_000
BILLION_MEMORY = 512 * MIB


@dataclass(frozen=True, kw_only=True)
class ReadyPart:
    """Batches that are in memory."""

    name: str
    ready: Sequence[DocumentBatch]

    def batches(self, batch_bytes: int) -> Iterator[DocumentBatch]:
        """All of them, as they are."""
        yield from self.ready


class Stopwatch:
    """Runs tasks in this process and adds up the seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def __call__(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            start = time.process_time()
            task.run()
            self.seconds[task.out.parent.name] += time.process_time() - start


def measured_slice_seconds(folder: Path, *, num_runs: int = 2000, records: int = 1 << 20) -> float:
    """Seconds to find and read one range in one run: one file stands for many runs, with a narrow range."""
    use = kernels()
    writer = RunWriter(folder, "slices", use, memory_bytes=1 << 40)
    keys = np.random.default_rng(1).integers(0, LAST_KEY, records, dtype=np.uint64)
    writer.append(keys, np.arange(records, dtype=np.uint32), np.zeros(records, np.uint32))
    writer.flush()
    (one,) = runs_of(folder, 0, "slices")
    runs = [Run(part=number, stem=one.stem) for number in range(num_runs)]
    first = LAST_KEY // 3
    start = time.process_time()
    read_records(runs, first, first + LAST_KEY // records * 500, use)
    return (time.process_time() - start) / num_runs


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure(parts: Sequence[Any], text_bytes: int, config: DuplicatesConfig, kernel: KernelChoice) -> dict[str, Any]:
    """Run the search once and report it; `generating` is what the parts themselves take."""
    start = time.process_time()
    for part in parts:
        for _ in part.batches(BATCH_BYTES):
            pass
    generating = time.process_time() - start
    kernels(kernel)
    with tempfile.TemporaryDirectory() as folder:
        work, watch = Path(folder, "work"), Stopwatch()
        found = find_duplicates(parts, work, config, run_tasks=watch, kernel=kernel)
        gone = [np.flatnonzero(~found.stays(part)) for part in range(len(parts))]
        seconds = dict(watch.seconds)
        for stage in ("signed", "extracted"):
            seconds[stage] = max(0.0, seconds[stage] - generating)
        return {
            "documents": sum(found.num_documents(part) for part in range(len(parts))),
            "text_bytes": text_bytes,
            "kernel": type(kernels(kernel)).__name__,
            "stage_seconds": seconds,
            "stage_bytes": {stage: size_of(work / stage) for stage in seconds},
            "tokens_per_second": text_bytes / TOKEN_BYTES / sum(seconds.values()),
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "removed": dict(found.counts()),
            "pairs_compared": found.pairs_compared,
            "pairs_not_compared": found.pairs_not_compared,
            "slice_seconds": measured_slice_seconds(Path(folder)),
            "gone": gone,
        }


def median_of(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The run with the median speed."""
    return sorted(runs, key=lambda run: run["tokens_per_second"])[len(runs) // 2]


def measure_folder(
    folder: Path, megabytes: int, rounds: int, peers: Sequence[str], kernel: KernelChoice, config: DuplicatesConfig
) -> dict[str, Any]:
    """Texts of a folder, with recall, and peers on the same texts."""
    texts = texts_of(folder, characters=megabytes * 1_000_000)
    documents = (Document(id=f"{number}", text=text) for number, text in enumerate(texts))
    ready = list(batches_of(documents, batch_bytes=BATCH_BYTES))
    text_bytes = sum(len(batch.texts.data) for batch in ready)
    parts = [ReadyPart(name="texts", ready=ready)]
    measured = median_of([measure(parts, text_bytes, config, kernel) for _ in range(rounds)])
    pairs = true_pairs(ready)
    measured |= quality_of(measured.pop("gone")[0], pairs, len(texts))
    measured["peers"] = {}
    for peer in peers:
        name, _, python = peer.partition("=")
        found = peer_on(texts, name, python)
        measured["peers"][name] = {
            "version": found["version"],
            "tokens_per_second": text_bytes / TOKEN_BYTES / found["seconds"],
            **quality_of(np.array(found["removed"], np.int64), pairs, len(texts)),
        }
    return measured


def peer_on(texts: list[str], name: str, python: str) -> dict[str, Any]:
    """What a peer prints."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "texts.json")
        path.write_text(json.dumps(texts), encoding="utf-8")
        done = subprocess.run([python, str(PEERS), name, str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {name} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def measure_synthetic(documents: int, kernel: KernelChoice, config: DuplicatesConfig) -> dict[str, Any]:
    """Short synthetic texts, with the recall of the pairs that are known."""
    parts: list[SyntheticPart] = synthetic_parts(documents, PART_DOCUMENTS)
    sample: Texts = next(parts[0].batches(BATCH_BYTES)).texts
    measured = measure(parts, round(len(sample.data) / len(sample) * documents), config, kernel)
    gone = np.zeros(documents, bool)
    for part, numbers in zip(parts, measured.pop("gone"), strict=True):
        gone[part.first + numbers] = True
    pairs = found = 0
    for part in parts:
        for start in range(part.first, part.first + part.count, 50_000):
            numbers = np.arange(start, min(start + 50_000, part.first + part.count))
            originals = part.originals(numbers)
            true = (originals != numbers) & (part.similarities(numbers) >= 0.8)
            pairs += int(true.sum())
            found += int((gone[numbers] | gone[originals])[true].sum())
    return {**measured, "true_pairs": pairs, "recall": found / pairs}


def report(measured: dict[str, Any], plan: SearchPlan) -> Iterator[str]:
    """Lines to print."""
    tokens = measured["text_bytes"] / TOKEN_BYTES
    yield f"{measured['documents']:,} documents, {tokens / 1e6:.1f}M tokens, {measured['kernel']}"
    for stage, seconds in measured["stage_seconds"].items():
        yield f"  {stage:<10}{seconds:8.2f} s {tokens / max(seconds, 1e-9) / 1e6:10.1f}M tokens/s"
    yield f"  end to end {measured['tokens_per_second'] / 1e6:.1f}M tokens/s, {format_bytes(measured['peak_bytes'])}"
    wrong = measured.get("removed_without_true_duplicate")
    yield f"  recall {measured['recall']:.5f} of {measured['true_pairs']:,} true pairs" + (
        "" if wrong is None else f", {wrong} removed without a true duplicate"
    )
    yield f"  removed {measured['removed']}, pairs compared {measured['pairs_compared']:,}"
    for name, peer in measured.get("peers", {}).items():
        speed = peer["tokens_per_second"]
        yield (
            f"  {name} {peer['version']}: {speed / 1e6:.1f}M tokens/s, recall {peer['recall']:.5f}, "
            f"{peer['removed_without_true_duplicate']} removed without a true duplicate; "
            f"ours is {measured['tokens_per_second'] / speed:.1f} times as fast"
        )
    yield ""
    yield str(plan)


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="texts to measure on")
    parser.add_argument("--megabytes", type=int, default=100, help="at most so many characters of them")
    parser.add_argument("--rounds", type=int, default=3, help="runs on the folder; the median one is reported")
    parser.add_argument("--documents", type=parse_count, help="synthetic documents instead")
    parser.add_argument("--kernel", choices=["auto", "native", "numpy"], default="auto")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON", help="daft, rensa")
    parser.add_argument("--plan", type=parse_count, default=10**9, help="documents to plan for")
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    config = DuplicatesConfig()
    if arguments.documents:
        measured = measure_synthetic(arguments.documents, arguments.kernel, config)
    elif arguments.folder:
        measured = measure_folder(
            arguments.folder, arguments.megabytes, arguments.rounds, arguments.peer, arguments.kernel, config
        )
    else:
        parser.error("name a folder with texts, or --documents")
    names = ("documents", "text_bytes", "stage_seconds", "stage_bytes", "slice_seconds")
    search = MeasuredSearch(**{name: measured[name] for name in names})
    large = replace(config, memory_bytes=BILLION_MEMORY)
    plan = SearchPlan(measured=search, documents=arguments.plan, workers=arguments.workers, config=large)
    if arguments.json:
        print(json.dumps(measured, indent=2))
        return
    for line in report(measured, plan):
        print(line)
    if measured["recall"] < 0.995 or measured.get("removed_without_true_duplicate"):
        sys.exit("error: recall below 0.995, or something was removed without a duplicate")


if __name__ == "__main__":
    main()
