"""A set of preferences on disk: one folder, append-only lines, nothing that was said is ever lost.

HOME/preferences/NAME/
    set.json        format_version, name, when it was begun, the seed of its order
    pairs.jsonl     prompts with two answers each
    ratings.jsonl   who said what about which pair; taking back is a row of its own
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.core.files import write_json_atomic
from mamba_slm.runs.format_version import read_versioned_json
from mamba_slm.runs.jsonl import JsonLinesWriter, read_json_lines
from mamba_slm.runs.layout import default_home
from mamba_slm.runs.preferences.rows import Pair, Rating

FORMAT_VERSION = 1
FOLDER = "preferences"
"""Of all sets, inside the home of runs."""


@dataclass(frozen=True)
class PreferenceSet:
    """The pairs and ratings of one set. Several raters may add to it at the same time."""

    path: Path
    seed: int
    """Of the order in which pairs are shown."""

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def pairs_file(self) -> Path:
        return self.path / "pairs.jsonl"

    @property
    def ratings_file(self) -> Path:
        return self.path / "ratings.jsonl"

    @classmethod
    def open(cls, name: str, home: str | os.PathLike[str] | None = None) -> PreferenceSet:
        """The set of this name.

        Raises:
            UnknownNameError: there is none; names the nearest.
            DataError, SetupError: its `set.json` is damaged or was written by a newer package.
        """
        path = folder_of(name, home)
        if not (path / "set.json").is_file():
            known = [found.name for found in list_sets(home)]
            begin = f"begin it: mamba-slm prefs rate {name} --model MODEL --prompts FILE"
            raise UnknownNameError("set of preferences", name, known, hint=None if known else begin)
        settings = read_versioned_json(path / "set.json", supported=FORMAT_VERSION, migrations={})
        return cls(path, int(settings.get("seed", 0)))

    @classmethod
    def open_or_create(
        cls, name: str, home: str | os.PathLike[str] | None = None, *, seed: int | None = None
    ) -> PreferenceSet:
        """The set of this name, begun now where there is none.

        Args:
            seed: of a new set; drawn where None.

        Raises: see `open`; ConfigError: a name that is no folder's name.
        """
        path = folder_of(name, home)
        if not (path / "set.json").is_file():
            seed = secrets.randbelow(1 << 31) if seed is None else seed
            begun = {"format_version": FORMAT_VERSION, "name": name, "created": now(), "seed": seed}
            write_json_atomic(path / "set.json", begun)
        return cls.open(name, home)

    def pairs(self) -> list[Pair]:
        """Every pair once, oldest first.

        Raises:
            DataError: a damaged line; names it.
        """
        rows = read_json_lines(self.pairs_file)
        found = (Pair.from_row(row, f"{self.pairs_file}:{number}") for number, row in enumerate(rows, start=1))
        kept: dict[str, Pair] = {}
        for pair in found:
            kept.setdefault(pair.id, pair)  # ratings speak of the answers in the order that was written first
        return list(kept.values())

    def ratings(self) -> list[Rating]:
        """What was said and not taken back, oldest first.

        Raises:
            DataError: a damaged line; names it.
        """
        kept: dict[str, Rating] = {}
        for number, row in enumerate(read_json_lines(self.ratings_file), start=1):
            if "undo" in row:
                kept.pop(str(row["undo"]), None)
                continue
            rating = Rating.from_row(row, f"{self.ratings_file}:{number}")
            kept[rating.id] = rating
        return list(kept.values())

    def add_pairs(self, pairs: Iterable[Pair]) -> int:
        """Append those that are not there yet; returns how many that were."""
        known = {pair.id for pair in self.pairs()}
        added = 0
        with JsonLinesWriter(self.pairs_file) as writer:
            for pair in pairs:
                if pair.id not in known:
                    known.add(pair.id)
                    writer.append(pair.to_row())
                    added += 1
        return added

    def add_ratings(self, ratings: Iterable[Rating]) -> None:
        """Append ratings; each survives a kill as soon as it is written."""
        with JsonLinesWriter(self.ratings_file) as writer:
            for rating in ratings:
                writer.append(rating.to_row())

    def take_back(self, rating: Rating) -> None:
        """Append that a rating does not count."""
        with JsonLinesWriter(self.ratings_file) as writer:
            writer.append({"undo": rating.id, "time": now()})


def folder_of(name: str, home: str | os.PathLike[str] | None) -> Path:
    """Where a set lies.

    Raises:
        ConfigError: the name would leave the home or hide the folder.
    """
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise ConfigError(f"{name!r} is not a usable name of a set", hint="use letters, digits, - _ . +")
    return (default_home() if home is None else Path(home)) / FOLDER / name


def list_sets(home: str | os.PathLike[str] | None = None) -> list[PreferenceSet]:
    """Every set in a home, by name."""
    folder = (default_home() if home is None else Path(home)) / FOLDER
    if not folder.is_dir():
        return []
    names = sorted(entry.name for entry in folder.iterdir() if (entry / "set.json").is_file())
    return [PreferenceSet.open(name, home) for name in names]


def new_id() -> str:
    """For a rating: unlike every other one, whoever writes at the same time."""
    return secrets.token_hex(8)


def now() -> str:
    """UTC to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
