"""What happens to each document, and why: the result of looking for duplicates."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mamba_slm.core.files import folder_written_atomically
from mamba_slm.data.curation.duplicates.exact import same_bytes
from mamba_slm.data.curation.duplicates.resolution import REMOVED
from mamba_slm.data.curation.duplicates.runs import PART_SHIFT, index_of, rows_of_part
from mamba_slm.data.curation.duplicates.signing import SignedParts
from mamba_slm.data.curation.verdict import Removed

VERDICT = np.dtype([("index", "<u4"), ("rule", "u1"), ("kept", "<u8"), ("shared", "<u4"), ("either", "<u4")])
"""A document that goes: its number in the part, the rule, the location of a kept duplicate, and the counts."""

SAME_BYTES, SAME_WORDS, NEAR = range(3)
RULES = ("duplicates.exact", "duplicates.same_words", "duplicates.near")


def judge_part(number: int, signed: SignedParts, copies: Path, resolved: Path, out: Path) -> None:
    """Write what goes of a part, as `VERDICT` rows in order."""
    near = near_of_part(resolved, number)
    rows = np.load(copies / "copies.npy")
    exact = np.zeros(len(rows), VERDICT)
    exact["index"], exact["kept"] = index_of(rows["removed"]), rows["kept"]
    exact["rule"] = np.where(same_bytes(rows, signed), SAME_BYTES, SAME_WORDS)
    point_to_kept(exact, resolved)
    verdicts = np.zeros(len(near), VERDICT)
    verdicts["index"], verdicts["rule"] = index_of(near["removed"]), NEAR
    for column in ("kept", "shared", "either"):
        verdicts[column] = near[column]
    with folder_written_atomically(out) as folder:
        np.save(folder / "verdicts.npy", np.sort(np.concatenate([exact, verdicts]), order="index"))


def near_of_part(resolved: Path, number: int) -> np.ndarray:
    """The near-duplicates of a part that go, as `REMOVED` rows."""
    found = [np.zeros(0, REMOVED)]
    for path in sorted(resolved.glob("removed-*.npy")):
        rows = np.load(path, mmap_mode="r")
        found.append(np.array(rows[rows_of_part(rows["removed"], number)]))
    return np.concatenate(found)


def point_to_kept(exact: np.ndarray, resolved: Path) -> None:
    """Copies whose representative goes as a near-duplicate are near-duplicates of what it duplicates. In place."""
    for path in sorted(resolved.glob("removed-*.npy")):
        rows = np.load(path, mmap_mode="r")
        if not len(rows) or not len(exact):
            continue
        where = np.minimum(np.searchsorted(rows["removed"], exact["kept"]), len(rows) - 1)
        gone = (rows["removed"][where] == exact["kept"]) & (exact["rule"] != NEAR)
        proof = rows[where[gone]]
        exact["rule"][gone] = NEAR
        for column in ("kept", "shared", "either"):
            exact[column][gone] = proof[column]


@dataclass(frozen=True, kw_only=True, order=True)
class Removal:
    """A document that goes, by its id."""

    id: str
    rule: str
    kept_id: str
    """A document that stays and is a duplicate of it."""

    shared: int
    """Shingles in both, and in either; 0 for exact duplicates, which need not be counted."""

    either: int

    @property
    def similarity(self) -> Fraction:
        """Jaccard similarity with the document that stays."""
        return Fraction(self.shared, self.either) if self.either else Fraction(1)

    def reason(self) -> Removed:
        """For the funnel."""
        similarity = f", similarity {float(self.similarity):.3f}" if self.rule == RULES[NEAR] else ""
        return Removed(rule=self.rule, detail=f"of {self.kept_id}{similarity}")


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """The result: which documents of each part go. Everything is read from the work folder when it is asked for."""

    signed: SignedParts
    judged: tuple[Path, ...]
    pairs_not_compared: int
    """Pairs within groups beyond `group_limit` that no other way led to: 0 unless boilerplate is everywhere."""

    pairs_compared: int
    """Pairs whose shingles were counted, each at most once per part."""

    def num_documents(self, part: int) -> int:
        """How many documents a part has."""
        return json.loads((self.signed.folders[part] / "summary.json").read_text())["documents"]

    def verdicts(self, part: int) -> np.ndarray:
        """`VERDICT` rows of a part: what goes, in order."""
        return np.load(self.judged[part] / "verdicts.npy")

    def stays(self, part: int) -> NDArray[np.bool_]:
        """For each document of a part in order, whether it stays."""
        kept = np.ones(self.num_documents(part), bool)
        kept[self.verdicts(part)["index"]] = False
        return kept

    def counts(self) -> Counter[str]:
        """How many documents each rule removes."""
        counts: Counter[str] = Counter()
        for part in range(len(self.judged)):
            numbers = np.bincount(self.verdicts(part)["rule"], minlength=len(RULES))
            counts.update(dict(zip(RULES, numbers.tolist(), strict=True)))
        return counts

    def removals(self, parts: Sequence[int] | None = None) -> Iterator[Removal]:
        """What goes, part by part in order."""
        for part in range(len(self.judged)) if parts is None else parts:
            for index, rule, kept, shared, either in self.verdicts(part).tolist():
                yield Removal(
                    id=self.signed.id_of(int(part << int(PART_SHIFT)) | index),
                    rule=RULES[rule],
                    kept_id=self.signed.id_of(kept),
                    shared=shared,
                    either=either,
                )

    def fingerprint(self) -> str:
        """A hash of all removals, the same for any order of documents and parts: two runs with the same agree."""
        total = 0
        for removal in self.removals():
            row = json.dumps([removal.id, removal.rule, removal.kept_id, removal.shared, removal.either])
            total += int.from_bytes(hashlib.blake2b(row.encode(), digest_size=16).digest(), "little")
        return f"{total % (1 << 128):032x}"
