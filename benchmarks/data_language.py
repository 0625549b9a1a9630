"""The English gate on one core, compiled and by its definition, beside other language identifiers; and its quality.

python benchmarks/data_language.py speed ../shared/data/corpora                   every text that can be read there
python benchmarks/data_language.py speed FOLDER --peer pycld2=VENV/bin/python --peer fasttext=VENV/bin/python
python benchmarks/data_language.py quality tldr/pages tldr/pages.nl --kind docs   share of each's documents that stays

Seconds are those of the processor, medians of rounds in turns; 1 token = 4.1 bytes. Peers run in their own Python,
where nothing of ours need be installed, on the first texts of the same corpus.
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
from mamba_slm.data.curation.language.definition import weigh
from mamba_slm.data.curation.language.gate import LanguageConfig, LanguageGate
from mamba_slm.data.curation.language.native import scorer, to_matrix, weigh_texts
from mamba_slm.data.curation.verdict import KINDS
from mamba_slm.data.readers import read_documents
from mamba_slm.data.reading.options import ReadOptions
from mamba_slm.data.reading.report import ReadReport

TOKEN_BYTES = 4.1
BATCH = 2000
PEERS = Path(__file__).with_name("_language_peers.py")
MIN_CHARACTERS = 100


def read_texts(folder: Path, *, max_characters: int) -> Iterator[str]:
    """Texts of a folder in pieces of at most `max_characters`; what cannot be read is left out."""
    for document in read_documents(folder, ReadOptions(on_error="skip"), report=ReadReport()):
        for start in range(0, len(document.text), max_characters):
            yield document.text[start : start + max_characters]


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


def first(texts: list[str], max_bytes: int) -> list[str]:
    """The first texts of at most so many bytes together, one at least."""
    total = itertools.accumulate(len(text.encode()) for text in texts)
    return texts[: max(1, sum(size <= max_bytes for size in total))]


def row(way: str, size: int, seconds: float) -> dict[str, Any]:
    """One line of the result."""
    rate = size / seconds
    return {"way": way, "bytes": size, "seconds": seconds, "tokens_per_second": rate / TOKEN_BYTES}


def speed(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Our rows, then those of the peers."""
    texts = list(read_texts(arguments.folder, max_characters=arguments.piece_characters))
    if not texts:
        raise DataError(f"no text in {arguments.folder}", hint="name a folder with text files or JSON Lines")
    batches = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
    few = first(texts, arguments.reference_bytes)
    if not np.array_equal(weigh_texts(few), to_matrix([weigh(text, scorer()) for text in few])):
        raise SystemExit("error: the compiled evidence differs from its definition")
    gate = LanguageGate(LanguageConfig(), "web")
    fast = {"language gate, compiled": lambda: [gate.removed(batch) for batch in batches]}
    slow = {"language gate, in Python": lambda: [weigh(text, scorer()) for text in few]}
    rows = [row(name, size_of(texts), seconds) for name, seconds in timed(fast, rounds=arguments.rounds).items()]
    rows += [row(name, size_of(few), seconds) for name, seconds in timed(slow, rounds=1).items()]
    chosen = first(texts, arguments.peer_bytes)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "texts.jsonl")
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in chosen), encoding="utf-8")
        for peer in arguments.peer:
            name, _, python = peer.partition("=")
            done = subprocess.run([python, str(PEERS), name, str(path)], capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{name}: not measured: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
                continue
            rows += [row(**one) for one in json.loads(done.stdout)]
    return rows


def size_of(texts: list[str]) -> int:
    """Bytes in UTF-8."""
    return sum(len(text.encode()) for text in texts)


def quality(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Of each folder, the share of documents that the gate lets through."""
    gate = LanguageGate(LanguageConfig(min_confidence=arguments.min_confidence), arguments.kind)
    rows = []
    for folder in arguments.folders:
        documents = read_documents(folder, ReadOptions(on_error="skip"), report=ReadReport())
        texts = {one.id: one.text for one in documents if len(one.text) >= MIN_CHARACTERS}
        if not texts:
            raise DataError(f"no document of {MIN_CHARACTERS} characters in {folder}")
        confidence = gate.confidence(list(texts.values()))
        kept = [reason is None for reason in gate.removed(list(texts.values()))]
        odd = sorted(zip(confidence.tolist(), texts, kept, strict=True))
        few = [(name, score) for score, name, stays in odd if stays == bool(np.mean(kept) < 0.5)]
        rows.append(
            {"folder": str(folder), "documents": len(texts), "kept": float(np.mean(kept)), "odd": few[: arguments.odd]}
        )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    ways = parser.add_subparsers(required=True, metavar="speed|quality")
    way = ways.add_parser("speed")
    way.set_defaults(measure=speed)
    way.add_argument("folder", type=Path, help="texts to measure")
    way.add_argument("--piece-characters", type=int, default=5000, help="length of the pieces of long texts")
    way.add_argument("--rounds", type=int, default=5, help="rounds of the compiled gate")
    way.add_argument("--reference-bytes", type=int, default=2_000_000, help="how much the definition weighs")
    way.add_argument("--peer", action="append", default=[], help="NAME=PYTHON, of pycld2, fasttext or py3langid")
    way.add_argument("--peer-bytes", type=int, default=8_000_000, help="how much the peers read")
    way = ways.add_parser("quality")
    way.set_defaults(measure=quality)
    way.add_argument("folders", type=Path, nargs="+", help="documents of one language each")
    way.add_argument("--kind", choices=KINDS, default="docs")
    way.add_argument("--min-confidence", type=float, default=LanguageConfig().min_confidence)
    way.add_argument("--odd", type=int, default=0, help="name so many documents that are judged unlike most")
    arguments = parser.parse_args()
    rows = arguments.measure(arguments)
    if arguments.json:
        print(json.dumps(rows, indent=1))
    for one in [] if arguments.json else rows:
        if "way" in one:
            rate = one["tokens_per_second"]
            print(f"{one['way']:40} {rate * TOKEN_BYTES / 1e6:9.2f} MB/s {rate / 1e6:8.3f}M tokens/s")
        else:
            print(f"{one['folder']:40} {one['documents']:6,} documents, kept {one['kept']:.4f}")
            print("".join(f"    {score:.3f} {name}\n" for name, score in one["odd"]), end="")


if __name__ == "__main__":
    main()
