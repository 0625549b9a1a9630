"""Every stage of curation on one core beside what others have for it: `make bench-data`.

python benchmarks/data.py ../shared/data/corpora --tokenizer ../shared/data/tokenizers/neox/20B_tokenizer.json
python benchmarks/data.py FOLDER --peers VENV/bin/python --dolma VENV2/bin/python --rounds 5
python benchmarks/data.py FOLDER --only quality,language
python benchmarks/data.py --page                       docs/reference/data-speed.md from the results alone

Every way runs in a process of its own, in turns, with one thread; seconds are those of the processor, the median of
the rounds. 1 token = 4.1 bytes. The corpus: all UTF-8 text below FOLDER and Python's own library, in pieces of
`--piece-characters`. Slow ways get the first part of it only; a rate does not depend on that.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from _data_page import STAGES, TOKEN_BYTES, Stage, page
from data_signals import read_texts

from mamba_slm.core.files import write_json_atomic, write_text_atomic
from mamba_slm.runs.machine import hardware_summary

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "data.json"
PAGE = HERE.parent / "docs" / "reference" / "data-speed.md"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


SLOW = ("datatrove Gopher + C4 + FineWeb", "datatrove MinHash signatures alone", "dolma gopher_v1")


def write_corpus(folder: Path, texts: list[str], tokenizer: Path | None) -> None:
    """The same documents in every format, and the tokenizer."""
    import gzip

    import pyarrow
    import pyarrow.parquet
    import zstandard

    folder.mkdir()
    records = [{"text": text, "id": str(number)} for number, text in enumerate(texts)]
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
    (folder / "docs.jsonl").write_bytes(lines)
    (folder / "docs.jsonl.zst").write_bytes(zstandard.ZstdCompressor(level=3).compress(lines))
    (folder / "docs.jsonl.gz").write_bytes(gzip.compress(lines, 6))
    pyarrow.parquet.write_table(
        pyarrow.table({"text": texts, "id": [record["id"] for record in records]}),
        folder / "docs.parquet",
        compression="zstd",
        row_group_size=1000,
    )
    if tokenizer:
        (folder / "tokenizer.json").write_bytes(tokenizer.read_bytes())


def chosen(texts: Iterable[str], max_bytes: int) -> list[str]:
    """The first texts, up to so many bytes, without those that are empty."""
    taken, size = [], 0
    for text in texts:
        if text.strip():
            size += len(text.encode())
            if size > max_bytes:
                break
            taken.append(text)
    return taken


def spread(texts: list[str]) -> list[str]:
    """In an order that does not depend on where the texts were: a beginning is then a sample of all."""
    step = 7919  # a prime that does not divide their number
    return [texts[i * step % len(texts)] for i in range(len(texts))] if len(texts) % step else texts


def timed(python: str, module: str, way: str, corpus: Path) -> dict[str, Any]:
    """One run in a fresh process: seconds, peak, versions; or why it failed."""
    with tempfile.TemporaryDirectory() as scratch:
        for file in corpus.iterdir():
            if file.is_file():
                Path(scratch, file.name).symlink_to(file)
        done = subprocess.run(
            [python, str(HERE / "_data_time.py"), module, way, scratch],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **ONE_THREAD, **OFFLINE},
        )
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1][:300]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def near_duplicates(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of `data_duplicates.py`, which checks recall and wrong removals, too."""
    command = [sys.executable, str(HERE / "data_duplicates.py"), str(arguments.folder), "--json"]
    if arguments.peers:
        command += ["--peer", f"daft={arguments.peers}", "--peer", f"rensa={arguments.peers}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **ONE_THREAD})
    if done.returncode:
        return [{"stage": "near-duplicates", "way": "near-duplicates", "failed": done.stderr.strip()[-300:]}]
    found = json.loads(done.stdout)
    rows = {"ours": found} | {f"{name}, 16 bands of 8": row for name, row in found["peers"].items()}
    return [
        {
            "stage": "near-duplicates",
            "way": way,
            "tokens_per_second": row["tokens_per_second"],
            "peak_bytes": row.get("peak_bytes"),
            "quality": {
                "recall": row["recall"],
                "wrong": row["removed_without_true_duplicate"],
                "true_pairs": found["true_pairs"],
            },
            "versions": {way.split(",")[0]: row["version"]} if way != "ours" else {},
        }
        for way, row in rows.items()
    ]


def measure(stage: Stage, arguments: argparse.Namespace, corpora: dict[str, Path]) -> Iterator[dict[str, Any]]:
    """Rows of a stage: ours and the peers in turns."""
    ways = [("ours", sys.executable, "_data_ways", stage.ours)]
    for peer in stage.peers:
        python = arguments.dolma if peer.startswith("dolma") else arguments.peers
        if python:
            ways.append((peer, python, "_data_peers", peer))
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name, *_ in ways}
    corpus_of = {name: corpora["small" if stage.slow or name in SLOW else "all"] for name, *_ in ways}
    for _ in range(arguments.rounds):
        for name, python, module, way in ways:
            if not any("failed" in run for run in runs[name]) and not (name in SLOW and len(runs[name]) >= 2):
                runs[name].append(timed(python, module, way, corpus_of[name]))
    for name, found in runs.items():
        failed = next((run["failed"] for run in found if "failed" in run), None)
        if failed:
            print(f"{stage.ours}: {name} failed: {failed}", file=sys.stderr)
            yield {"stage": stage.ours, "way": name, "failed": failed}
            continue
        size = sum(len(text.encode()) for text in read_lines(corpus_of[name]))
        seconds = statistics.median(run["seconds"] for run in found)
        yield {
            "stage": stage.ours,
            "way": name,
            "bytes": size,
            "seconds": seconds,
            "rounds": len(found),
            "tokens_per_second": size / TOKEN_BYTES / seconds,
            "peak_bytes": max(run["peak_bytes"] for run in found),
            "versions": found[0]["versions"],
        }


def read_lines(corpus: Path) -> Iterator[str]:
    """The texts of a corpus."""
    with (corpus / "docs.jsonl").open(encoding="utf-8") as file:
        return iter([json.loads(line)["text"] for line in file])


def main() -> int:
    """Measure, keep the results, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="texts to measure")
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer.json of byte-level BPE")
    parser.add_argument(
        "--peers", help="a Python with datasets, datatrove[processing], daft, rensa, pycld2, tokenizers"
    )
    parser.add_argument("--dolma", metavar="PYTHON", help="a Python with dolma")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--piece-characters", type=int, default=3000)
    parser.add_argument("--megabytes", type=int, default=100, help="size of the corpus (default 100)")
    parser.add_argument("--only", help="stages, separated by commas; the others stay as they are in the results")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results go")
    parser.add_argument("--page", action="store_true", help="write the page from the results, measure nothing")
    arguments = parser.parse_args()
    if not arguments.page:
        if arguments.folder is None:
            parser.error("a folder with texts is needed")
        write_json_atomic(arguments.out, run(arguments))
    if arguments.out == RESULTS:
        write_text_atomic(PAGE, page(json.loads(RESULTS.read_text(encoding="utf-8"))))
    return 0


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """All stages."""
    only = set((arguments.only or ",".join(stage.ours for stage in STAGES)).split(","))
    library = Path(sysconfig.get_path("stdlib"))
    texts = [
        text
        for folder in (arguments.folder, library)
        for text in read_texts(folder, max_characters=arguments.piece_characters)
    ]
    texts = chosen(spread(texts), arguments.megabytes * 1_000_000)
    rows: list[dict[str, Any]] = []
    if arguments.out.exists() and arguments.only:
        before = json.loads(arguments.out.read_text(encoding="utf-8"))
        rows = [{"command": before["command"], **row} for row in before["rows"] if row["stage"] not in only]
    with tempfile.TemporaryDirectory() as folder:
        corpora = {"all": Path(folder, "all"), "small": Path(folder, "small")}
        write_corpus(corpora["all"], texts, arguments.tokenizer)
        write_corpus(corpora["small"], chosen(texts, 4_000_000), arguments.tokenizer)
        for stage in STAGES:
            if stage.ours not in only:
                continue
            found = (
                near_duplicates(arguments) if stage.ours == "near-duplicates" else measure(stage, arguments, corpora)
            )
            for row in found:
                rows.append(row)
                rate = row.get("tokens_per_second")
                print(f"{stage.ours:16} {row['way']:45} {rate / 1e6:8.3f}M tokens/s" if rate else row, flush=True)
    rows.sort(key=lambda row: [stage.ours for stage in STAGES].index(row["stage"]))
    return {
        "format_version": 1,
        "command": ["python", "benchmarks/data.py", *sys.argv[1:]],
        "python": sys.version.split()[0],
        "hardware": hardware_summary(),
        "num_texts": len(texts),
        "text_bytes": sum(len(text.encode()) for text in texts),
        "piece_characters": arguments.piece_characters,
        "rounds": arguments.rounds,
        "rows": rows,
    }


if __name__ == "__main__":
    sys.exit(main())
