"""Finding and masking personal data on one core: ours by hyperscan and by `re`, a plain loop over hyperscan, datatrove.

python benchmarks/data_personal.py ../shared/data/corpora              every file below that is UTF-8 text or JSON Lines
python benchmarks/data_personal.py FOLDER --peer datatrove=VENV/bin/python
python benchmarks/data_personal.py FOLDER --json

Seconds are those of the processor, medians of rounds in turns; 1 token = 4.1 bytes. The plain loop looks for the same
eight kinds by one pattern each, without check digits or context, and only collects matches.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_signals import read_texts, row, timed

from mamba_slm.core.errors import DataError
from mamba_slm.core.optional import require
from mamba_slm.data.curation.personal.clean import PersonalData
from mamba_slm.data.curation.personal.config import PersonalConfig
from mamba_slm.data.curation.personal.find import find_spans
from mamba_slm.data.curation.personal.scanning import scan_with_re

TOKEN_BYTES = 4.1
PEERS = Path(__file__).with_name("_personal_peers.py")
PLAIN_PATTERNS = (
    rb"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}",
    rb"\(?\d{3}\)?[-. ]\d{3}[-. ]\d{4}",
    rb"\+\d{1,3}[ -]?\d{2,4}[ -]?\d{3,4}[ -]?\d{3,4}",
    rb"\d{4}[ -]?\d{4}[ -]?\d{4}[ -]?\d{4}",
    rb"[A-Z]{2}\d{2}[ ]?[A-Z0-9]{4}[ ]?[A-Z0-9]{4}[ ]?[A-Z0-9]{3}",
    rb"\d{3}-\d{2}-\d{4}",
    rb"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}",
    rb"AKIA[0-9A-Z]{16}|ghp_[A-Za-z0-9]{36}|sk-[A-Za-z0-9]{20}",
    rb"(?i)(?:password|secret|token|api_key)[\"']?\s*[:=]\s*[\"']?[A-Za-z0-9+/_-]{8}",
)


def plain_loop(texts: list[str]):
    """One database of the plain patterns, scanned text by text; matches are collected and nothing is confirmed."""
    hyperscan = require("hyperscan", extra="data", purpose="the plain loop")
    database = hyperscan.Database()
    database.compile(expressions=list(PLAIN_PATTERNS), ids=list(range(len(PLAIN_PATTERNS))))

    def collect(number: int, start: int, end: int, flags: int, found: list[tuple[int, int]]) -> None:
        found.append((number, end))

    def loop() -> int:
        total = 0
        for text in texts:
            found: list[tuple[int, int]] = []
            database.scan(text.encode(), match_event_handler=collect, context=found)
            total += len(found)
        return total

    return loop


def our_rows(texts: list[str], rounds: int, slow_bytes: int) -> list[dict[str, Any]]:
    """Ours and the plain loop, in turns; `re` on the first texts, where it must find the same."""
    sizes = [len(text.encode()) for text in texts]
    few = texts[: max(1, sum(total <= slow_bytes for total in itertools.accumulate(sizes)))]
    personal = PersonalData(PersonalConfig())

    def by_re() -> list[Any]:
        hits = scan_with_re(few)
        return [find_spans(text, hits.get(number, {})) for number, text in enumerate(few)]

    if by_re() != [personal.spans(text) for text in few]:
        raise SystemExit("error: hyperscan and re lead to different data")
    fast = timed(
        {"found and masked, hyperscan": lambda: personal.clean(texts), "plain hyperscan loop": plain_loop(texts)},
        rounds=rounds,
    )
    slow = timed({"found, re": by_re}, rounds=1)
    rows = [row(name, sum(sizes), seconds) for name, seconds in fast.items()]
    return rows + [row(name, sum(sizes[: len(few)]), seconds) for name, seconds in slow.items()]


def peer_rows(peers: list[str], texts: list[str], peer_bytes: int) -> Iterator[dict[str, Any]]:
    """Rows of the peers: each is `name=python`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "texts.jsonl")
        total = itertools.accumulate(len(text.encode()) for text in texts)
        chosen = [text for text, size in zip(texts, total, strict=True) if size <= peer_bytes]
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in chosen), encoding="utf-8")
        for peer in peers:
            name, _, python = peer.partition("=")
            result = subprocess.run([python, str(PEERS), name, str(path)], capture_output=True, text=True, check=False)
            if result.returncode:
                print(f"{name}: not measured: {result.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
                continue
            yield from (row(**one) for one in json.loads(result.stdout))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="texts to measure")
    parser.add_argument("--piece-characters", type=int, default=5000, help="length of the pieces of long texts")
    parser.add_argument("--bytes", type=int, default=30_000_000, help="how much is measured, from texts in mixed order")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the fast ways")
    parser.add_argument("--slow-bytes", type=int, default=2_000_000, help="how much re scans")
    parser.add_argument("--peer", action="append", default=[], help="NAME=PYTHON, of datatrove")
    parser.add_argument("--peer-bytes", type=int, default=4_000_000, help="how much the peers clean")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    texts = list(read_texts(arguments.folder, max_characters=arguments.piece_characters))
    if not texts:
        raise DataError(f"no text in {arguments.folder}", hint="it needs UTF-8 text or JSON Lines")
    random.Random(1).shuffle(texts)
    total = itertools.accumulate(len(text.encode()) for text in texts)
    texts = [text for text, size in zip(texts, total, strict=True) if size <= arguments.bytes]
    rows = our_rows(texts, arguments.rounds, arguments.slow_bytes)
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
