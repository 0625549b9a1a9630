"""What was preferred, as text for other programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mamba_slm.runs.preferences.rows import Pair, Rating
from mamba_slm.runs.preferences.verdicts import (
    CSV_FIELDS,
    DEFAULT_MIN_AGREEMENT,
    labelled_rows,
    preference_rows,
    rating_rows,
    verdicts,
)


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file, and what is not in it."""

    text: str
    rows: int
    left_out: Mapping[str, int]
    """Reason → number of pairs."""


def exported(
    pairs: Sequence[Pair],
    ratings: Sequence[Rating],
    *,
    format: str,
    min_agreement: float = DEFAULT_MIN_AGREEMENT,
) -> Exported:
    """A set in one of `FORMATS`: JSON lines of pairs (dpo) or of judged answers (kto), or every rating (csv).

    Args:
        min_agreement: pairs about which fewer of the ratings agree are left out; csv has all of them.

    Raises:
        ConfigError: a share outside 0 … 1.
    """
    if format == "csv":
        rows = rating_rows(pairs, ratings)
        file = io.StringIO()
        writer = csv.DictWriter(file, CSV_FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return Exported(text=file.getvalue(), rows=len(rows), left_out={})
    found = verdicts(pairs, ratings, min_agreement=min_agreement)
    rows, left_out = (preference_rows if format == "dpo" else labelled_rows)(found)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return Exported(text=text, rows=len(rows), left_out=left_out)
