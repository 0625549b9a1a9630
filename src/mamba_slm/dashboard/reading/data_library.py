"""Texts and tokens that lie below the folders of the dashboard, found by names, sizes and manifests alone."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import DataError
from mamba_slm.dashboard.reading.places import SHARDS, Places, is_open, kind_of_folder
from mamba_slm.data.compressed import without_compression
from mamba_slm.data.folders import CURATED_FILES, CURATION
from mamba_slm.data.provenance import read_object
from mamba_slm.data.sources.manifest import MANIFEST
from mamba_slm.data.sources.source import usual_bytes_per_token
from mamba_slm.runs.layout import is_run

MOST_FOLDERS = 2000
MOST_DEPTH = 4
MOST_ROWS = 200
LEAST_BYTES = 1024
MOST_FILES_APART = 8
"""Of a folder that get a row each; more are one row."""
TEXT_FORMATS = (
    *(".txt", ".text", ".md", ".jsonl", ".ndjson", ".json"),
    *(".parquet", ".arrow", ".csv", ".tsv", ".warc", ".xml"),
)
NO_TEXT = (
    *("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "vocab.json"),
    *("adapter_config.json", "special_tokens_map.json", "funnel.json", "timing.json", "index.json"),
    *("results.json", "answers.jsonl", "report.json", "quantization.json", "set.json", "pairs.jsonl", "ratings.jsonl"),
)
"""Settings, and what commands of ours say: nothing to learn a language from."""
NOT_OPENED = ("token shards", "curated text", "model", "adapter")
SKIPPED = frozenset(["node_modules", "__pycache__", "site-packages", "venv", "build", "dist"])


@dataclass(frozen=True, kw_only=True)
class Found:
    """Something to train on, or to make that from."""

    path: str
    kind: str
    """token shards, curated text, download, or text."""
    documents: int | None = None
    tokens: int | None = None
    is_estimated: bool = False
    """Whether `tokens` comes from the size alone."""
    bytes: int | None = None
    licence: str | None = None
    """None: nothing beside it says it."""
    formats: str = ""
    made_from: str = ""
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class DataLibrary:
    """What was found."""

    found: tuple[Found, ...]
    tokenizers: tuple[str, ...]
    """Folders with a vocabulary."""
    is_cut: bool
    """Whether there are more folders than were looked at."""


def find_data(places: Places) -> DataLibrary:
    """Look through the folders that may be shown, a few levels deep; runs and models are not opened."""
    rows: list[Found] = []
    tokenizers: list[str] = []
    walk = Walk(places)
    for folder in walk:
        kind = kind_of_folder(folder)
        if (folder / "tokenizer.json").is_file():
            tokenizers.append(places.typed(folder))
        try:
            rows += found_in(places, folder, kind)
        except (DataError, LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            rows.append(Found(path=places.typed(folder), kind=kind or "text", problem=str(error)[:500]))
        except OSError:  # it went while we looked
            continue
    order = ("token shards", "curated text", "download", "text")
    rows.sort(key=lambda row: (order.index(row.kind) if row.kind in order else len(order), -(row.bytes or 0)))
    return DataLibrary(
        found=tuple(rows[:MOST_ROWS]), tokenizers=tuple(tokenizers), is_cut=walk.is_cut or len(rows) > MOST_ROWS
    )


class Walk:
    """Folders from the roots down, level by level."""

    def __init__(self, places: Places):
        self.places = places
        self.is_cut = False

    def __iter__(self) -> Iterator[Path]:
        level, seen = [root for root in self.places.roots if root.is_dir()], set[Path]()
        for _ in range(MOST_DEPTH + 1):
            below: list[Path] = []
            for folder in level:
                if folder in seen:
                    continue
                if len(seen) >= MOST_FOLDERS:
                    self.is_cut = True
                    return
                seen.add(folder)
                yield folder
                if not is_run(folder) and kind_of_folder(folder) not in NOT_OPENED:
                    below += self.folders_in(folder)
            level = below

    def folders_in(self, folder: Path) -> list[Path]:
        """What is directly inside and may be shown; links are not followed."""
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            names = sorted(
                entry.name
                for entry in entries
                if entry.is_dir(follow_symlinks=False) and is_open(Path(entry.name)) and entry.name not in SKIPPED
            )
            return [folder / name for name in names]
        return []


def found_in(places: Places, folder: Path, kind: str) -> list[Found]:
    """The rows for a folder.

    Raises:
        DataError, KeyError, TypeError, ValueError: a manifest is damaged.
    """
    path = places.typed(folder)
    if kind == "token shards":
        return [shards_at(path, folder)]
    if kind == "curated text":
        return [curation_at(path, folder)]
    if kind in ("run", "model", "adapter"):
        return []
    files = text_in(places, folder)
    if (folder / MANIFEST).is_file():
        return [download_at(path, folder, files)]
    if len(files) <= MOST_FILES_APART:
        return [of_files(places.typed(folder / name), [(name, size)]) for name, size in files]
    return [of_files(path, files)]


def shards_at(path: str, folder: Path) -> Found:
    """Token shards."""
    train, held_out = folder / "train" / SHARDS, folder / "validation" / SHARDS
    found = read_object(train if train.is_file() else folder / SHARDS)
    beside = f", {int(read_object(held_out)['num_documents']):,} documents held out" if held_out.is_file() else ""
    origins = found.get("provenance") or []
    licences = dict.fromkeys(str(origin.get("licence") or "unknown") for origin in origins)
    return Found(
        path=path,
        kind="token shards",
        documents=int(found["num_documents"]),
        tokens=int(found["num_tokens"]),
        bytes=sum(int(file["size_bytes"]) for file in found["files"]),
        licence=", ".join(licences) or None,
        formats=f"vocabulary of {int(found['vocab_size']):,}{beside}",
        made_from=", ".join(str(origin.get("input")) for origin in origins)[:200],
    )


def curation_at(path: str, folder: Path) -> Found:
    """The result of a curation."""
    record = read_object(folder / CURATION)
    totals = json.loads((folder / "funnel.json").read_text(encoding="utf-8"))["total"]
    sources = [source for source in record.get("sources") or [] if isinstance(source, dict)]
    licences = dict.fromkeys(str(source.get("licence") or "unknown") for source in sources)
    written = totals["written"]
    return Found(
        path=path,
        kind="curated text",
        documents=int(written["documents"]),
        tokens=round(int(written["bytes"]) / usual_bytes_per_token("a.txt")),
        is_estimated=True,
        bytes=sum(file.stat().st_size for file in folder.glob(CURATED_FILES)),
        licence=", ".join(licences) or None,
        formats=".jsonl.zst",
        made_from=", ".join(str(source.get("name")) for source in sources)[:200],
    )


def download_at(path: str, folder: Path, files: list[tuple[str, int]]) -> Found:
    """What `data download` fetched."""
    found, text = read_object(folder / MANIFEST), of_files(path, files)
    return Found(
        path=path,
        kind="download",
        tokens=int(found["tokens_estimated"]),
        is_estimated=True,
        bytes=text.bytes,
        licence=str(found.get("licence") or "") or None,
        formats=text.formats,
        made_from=str(found.get("page") or ""),
        problem=None if found.get("complete") else "not complete: run the download again",
    )


def text_in(places: Places, folder: Path) -> list[tuple[str, int]]:
    """Name and bytes of the files directly inside that hold text."""
    files: list[tuple[str, int]] = []
    for entry in places.entries(folder)[0]:
        suffix = without_compression(Path(entry.name)).suffix.lower()
        if entry.is_dir() or suffix not in TEXT_FORMATS or entry.name in NO_TEXT or entry.name.endswith(".part"):
            continue
        if (size := entry.stat().st_size) >= LEAST_BYTES:
            files.append((entry.name, size))
    return files


def of_files(path: str, files: list[tuple[str, int]]) -> Found:
    """Text in these files; tokens are guessed from their sizes."""
    formats = Counter("".join(Path(name).suffixes[-2:]).lower() for name, _ in files).most_common(4)
    return Found(
        path=path,
        kind="text",
        tokens=round(sum(size / usual_bytes_per_token(name) for name, size in files)),
        is_estimated=True,
        bytes=sum(size for _, size in files),
        formats=", ".join(f"{count} {suffix}" if len(files) > 1 else suffix for suffix, count in formats),
    )


def presets() -> list[dict[str, Any]]:
    """The public data sets that the command line knows, with the command that fetches a part of each."""
    from mamba_slm.data.sources.source import load_sources

    return [
        {
            "name": source.name,
            "title": source.title,
            "kind": source.kind,
            "licence": source.licence,
            "access": source.access,
            "tokens": source.tokens,
            "bytes": source.size_bytes,
            "note": source.note,
            "command": None
            if source.access == "withdrawn"
            else f"mamba-slm data download {source.name} --tokens 1B --out data/{source.name}",
        }
        for source in load_sources().values()
    ]
