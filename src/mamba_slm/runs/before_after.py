"""What a fine-tuning or alignment changed: the same measures before and after on the same held-out examples.

RUN/before_after.json holds one entry for each measure. Both sides saw the same examples, so the interval of the change
is paired: what is hard for both adds nothing to it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from mamba_slm.core.errors import DataError
from mamba_slm.core.files import write_json_atomic
from mamba_slm.core.intervals import Z_95, Share
from mamba_slm.runs.format_version import read_versioned_json

FORMAT_VERSION = 1
FILE = "before_after.json"
Interval = tuple[float, float]
Better = Literal["higher", "lower", "neither"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """One measure before and after. Intervals hold the truth 95 times in 100; None where there are too few cases."""

    name: str
    unit: str
    """"share" is shown in percent; anything else stands behind the number, such as "nats"."""
    better: Better
    count: int
    """Of examples, the same on both sides; 0 where nobody counted."""
    before: float
    after: float
    difference: Interval | None
    """Of after - before, paired."""
    before_interval: Interval | None = None
    after_interval: Interval | None = None

    @property
    def is_noise(self) -> bool:
        """Whether chance alone explains the change, or nobody knows."""
        return self.difference is None or self.difference[0] <= 0.0 <= self.difference[1]

    @property
    def verdict(self) -> str:
        """The change in a word."""
        if self.difference is None:
            return "no interval"
        if self.is_noise:
            return "≈ within noise"
        rose = self.after > self.before
        if self.better == "neither":
            return "rose" if rose else "fell"
        return "better" if rose == (self.better == "higher") else "worse"


def share_change(name: str, before: Sequence[bool], after: Sequence[bool], *, better: Better = "higher") -> Change:
    """How a share changed on the same examples. Each side has Wilson's interval; that of the paired difference adds
    half a case to each of the four cells (Agresti and Min 2005, Statistics in Medicine 24:729).

    Args:
        before, after: whether each example counts, in the same order.

    Raises:
        DataError: different numbers of examples, or none.
    """
    require_pairs(name, before, after)
    n = len(before)
    gained = sum(now and not then for then, now in zip(before, after, strict=True))
    lost = sum(then and not now for then, now in zip(before, after, strict=True))
    shares = [Share(sum(side), n) for side in (before, after)]
    g, l, m = gained + 0.5, lost + 0.5, n + 2.0  # noqa: E741
    middle = (g - l) / m
    half = Z_95 * math.sqrt(max(0.0, g + l - (g - l) ** 2 / m)) / m
    return Change(
        name=name,
        unit="share",
        better=better,
        count=n,
        before=shares[0].value or 0.0,
        after=shares[1].value or 0.0,
        difference=(max(-1.0, middle - half), min(1.0, middle + half)),
        before_interval=shares[0].interval,
        after_interval=shares[1].interval,
    )


def mean_change(
    name: str, before: Sequence[float], after: Sequence[float], *, unit: str, better: Better = "higher"
) -> Change:
    """How a mean changed on the same examples; the interval is that of the mean of the paired differences.

    Raises: see `share_change`.
    """
    require_pairs(name, before, after)
    return Change(
        name=name,
        unit=unit,
        better=better,
        count=len(before),
        before=statistics.fmean(before),
        after=statistics.fmean(after),
        difference=interval_of_mean([now - then for then, now in zip(before, after, strict=True)]),
        before_interval=interval_of_mean(before),
        after_interval=interval_of_mean(after),
    )


def score_change(
    name: str, before: tuple[float, float | None], after: tuple[float, float | None], *, count: int, unit: str = "share"
) -> Change:
    """How a score changed of which only value and standard error are known, as of a benchmark. The interval takes the
    two sides for independent, which makes it too wide where they answered the same questions."""
    errors = [error for _, error in (before, after)]
    difference = None
    if None not in errors:
        half = Z_95 * math.hypot(*(error or 0.0 for error in errors))
        difference = (after[0] - before[0] - half, after[0] - before[0] + half)
    return Change(
        name=name, unit=unit, better="higher", count=count, before=before[0], after=after[0], difference=difference
    )


def interval_of_mean(values: Sequence[float]) -> Interval | None:
    """95% interval of a mean by the normal distribution; None for fewer than two values."""
    if len(values) < 2:
        return None
    half = Z_95 * statistics.stdev(values) / math.sqrt(len(values))
    middle = statistics.fmean(values)
    return middle - half, middle + half


def require_pairs(name: str, before: Sequence[object], after: Sequence[object]) -> None:
    """Raise DataError unless both sides have the same number of examples, at least one."""
    if len(before) != len(after) or not before:
        raise DataError(f"{name} was measured on {len(before)} examples before and {len(after)} after")


def write_changes(folder: Path, changes: Sequence[Change]) -> Path:
    """Write `before_after.json` into a run's folder, atomically.

    Raises:
        ValueError: a number is not finite.
    """
    path = folder / FILE
    write_json_atomic(path, {"format_version": FORMAT_VERSION, "changes": [asdict(change) for change in changes]})
    return path


def read_changes(path: Path) -> list[Change]:
    """The changes of a file of `write_changes`.

    Raises:
        DataError: damaged. SetupError: written by a newer package. FileNotFoundError.
    """
    content = read_versioned_json(path, supported=FORMAT_VERSION, migrations={})
    try:
        return [change_of(row) for row in content["changes"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} holds something that is no change: {error!r}") from error


def change_of(row: Mapping[str, Any]) -> Change:
    """One entry of the file."""
    better = row["better"]
    if better not in ("higher", "lower", "neither"):
        raise ValueError(f"better is {better!r}")
    intervals: dict[str, Interval | None] = {}
    for name in ("difference", "before_interval", "after_interval"):
        found = row.get(name)
        intervals[name] = None if found is None else (float(found[0]), float(found[1]))
    return Change(
        name=str(row["name"]),
        unit=str(row["unit"]),
        better=better,
        count=int(row["count"]),
        before=float(row["before"]),
        after=float(row["after"]),
        **intervals,
    )


HEADER = ("measure", "n", "before", "after", "change", "")
NUMERIC = HEADER[1:5]


def change_rows(changes: Sequence[Change]) -> list[list[str]]:
    """One line for each measure, as texts under `HEADER`."""
    return [
        [
            change.name,
            f"{change.count:,}" if change.count else "–",
            written(change.before, change.before_interval, change.unit),
            written(change.after, change.after_interval, change.unit),
            written(change.after - change.before, change.difference, change.unit, signed=True),
            change.verdict,
        ]
        for change in changes
    ]


def written(value: float, interval: Interval | None, unit: str, *, signed: bool = False) -> str:
    """A number with its interval.

    >>> written(0.581, (0.467, 0.686), "share"), written(-0.2, None, "nats", signed=True)
    ('58.1% [46.7, 68.6]', '-0.200 nats')
    """
    scale, digits, mark = (100.0, 1, "%") if unit == "share" else (1.0, 3, f" {unit}" if unit else "")
    sign = "+" if signed else ""
    text = f"{value * scale:{sign}.{digits}f}{mark}"
    if interval is None:
        return text
    low, high = (f"{end * scale:{sign}.{digits}f}" for end in interval)
    return f"{text} [{low}, {high}]"
