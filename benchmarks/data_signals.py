"""Quality signals with all n-grams on one core: compiled, by their definition, and filters of datatrove and dolma.

python benchmarks/data_signals.py ../shared/data/corpora              every file below that is UTF-8 text or JSON Lines
python benchmarks/data_signals.py FOLDER --peer datatrove=VENV/bin/python --peer dolma=VENV2/bin/python
python benchmarks/data_signals.py FOLDER --json

Seconds are those of the processor, medians of rounds in turns; 1 token = 4.1 bytes. Peers run in their own Python,
where nothing of ours need be installed, on the first texts of the same corpus, and each filter sees every text.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mamba_slm.core.errors import DataError
from mamba_slm.data.curation.signals.assess import QualityConfig, assess
from mamba_slm.data.curation.signals.definition import measure
from mamba_slm.data.curation.signals.native import measure_bytes, measure_texts, to_matrix

TOKEN_BYTES = 4.1
BATCH = 2000
PEERS = Path(__file__).with_name("_signals_peers.py")
SUFFIXES = (".txt", ".md", ".rst", ".py", ".jsonl")


def read_texts(folder: Path, *, max_characters: int) -> Iterator[str]:
    """Texts of a folder: JSON Lines by their `text`, other files whole, both in pieces of at most `max_characters`."""
    for path in sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file()):
        try:
            content = path.read_bytes().decode()
        except UnicodeDecodeError:
            continue
        is_lines = path.suffix == ".jsonl"
        records = (
            (json.loads(line) for line in content.splitlines() if line.strip()) if is_lines else [{"text": content}]
        )
        for record in records:
            text = record.get("text") if isinstance(record, dict) else None
            for start in range(0, len(text or ""), max_characters):
                yield text[start : start + max_characters]


def timed(ways: dict[str, Callable[[], object]], *, rounds: int) -> dict[str, float]:
    """Median seconds of the processor of each way, in turns, after one call that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            start = time.process_time()
            way()
            if number:
                seconds[name].append(time.process_time() - start)
    return {name: statistics.median(found) for name, found in seconds.items()}


def batches(texts: list[str]) -> Iterator[list[str]]:
    """As the task engine will cut them."""
    return (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))


def rates(texts: list[str], rounds: int, reference_bytes: int) -> list[dict[str, Any]]:
    """Our rows."""
    encoded = [text.encode() for text in texts]
    content, sizes = b"".join(encoded), [len(one) for one in encoded]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    few = texts[: max(1, sum(total <= reference_bytes for total in itertools.accumulate(sizes)))]
    few_bytes = sum(sizes[: len(few)])
    if not np.array_equal(measure_texts(few), to_matrix([measure(text) for text in few])):
        raise SystemExit("error: the compiled signals differ from their definition")
    web = QualityConfig.of("web")
    whole = timed(
        {
            "signals of UTF-8 in memory": lambda: measure_bytes(content, offsets),
            "signals of Python strings": lambda: [measure_texts(batch) for batch in batches(texts)],
            "signals, rules, score, repeats": lambda: [assess(batch, web) for batch in batches(texts)],
        },
        rounds=rounds,
    )
    slow = timed({"definition in Python": lambda: [measure(text) for text in few]}, rounds=1)
    return [row(name, len(content), seconds) for name, seconds in whole.items()] + [
        row(name, few_bytes, seconds) for name, seconds in slow.items()
    ]


def row(name: str, size: int, seconds: float) -> dict[str, Any]:
    """One line of the result."""
    return {"way": name, "bytes": size, "seconds": seconds, "mb_per_second": size / seconds / 1e6}


def peer_rows(peers: list[str], texts: list[str], peer_bytes: int) -> Iterator[dict[str, Any]]:
    """Rows of the peers: each is `name=python`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "texts.jsonl")
        total = itertools.accumulate(len(text.encode()) for text in texts)
        chosen = [text for text, size in zip(texts, total, strict=True) if size <= peer_bytes]
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in chosen), encoding="utf-8")
        for peer in peers:
            name, _, python = peer.partition("=")
            command = [python, str(PEERS), name, str(path)]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                print(f"{name}: not measured: {result.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
                continue
            yield from (row(**one) for one in json.loads(result.stdout))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="texts to measure")
    parser.add_argument("--piece-characters", type=int, default=5000, help="length of the pieces of long texts")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the fast ways")
    parser.add_argument("--reference-bytes", type=int, default=2_000_000, help="how much the definition measures")
    parser.add_argument("--peer", action="append", default=[], help="NAME=PYTHON, of datatrove or dolma")
    parser.add_argument("--peer-bytes", type=int, default=4_000_000, help="how much the peers measure")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    texts = list(read_texts(arguments.folder, max_characters=arguments.piece_characters))
    if not texts:
        raise DataError(f"no text in {arguments.folder}", hint=f"it needs UTF-8 files with {', '.join(SUFFIXES)}")
    rows = rates(texts, arguments.rounds, arguments.reference_bytes)
    rows += peer_rows(arguments.peer, texts, arguments.peer_bytes)
    for one in rows:
        one["tokens_per_second"] = one["mb_per_second"] * 1e6 / TOKEN_BYTES
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return
    print(f"{len(texts):,} texts, {rows[0]['bytes'] / 1e6:.1f} MB; one process; 1 token = {TOKEN_BYTES} bytes")
    for one in rows:
        print(f"{one['way']:40} {one['mb_per_second']:9.2f} MB/s {one['tokens_per_second'] / 1e6:8.3f}M tokens/s")


if __name__ == "__main__":
    main()
