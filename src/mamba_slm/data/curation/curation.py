"""A finished curation on disk: the folder that tokenizing reads, and what is known about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import DataError
from mamba_slm.data.curation.funnel import Funnel
from mamba_slm.data.curation.timing import Timing
from mamba_slm.data.folders import CURATION

FUNNEL, REPORT, TIMING = "funnel.json", "report.html", "timing.json"
REMOVED_FOLDER = "removed"


@dataclass(frozen=True, kw_only=True)
class Curation:
    """What `curate` returns; `str` is the funnel and the times."""

    folder: Path
    record: Mapping[str, Any]
    """What curation.json says: settings, sources, cuts, files, totals."""

    funnel: Funnel
    timing: Timing

    @property
    def fingerprint(self) -> str:
        """A hash of the settings and of all files with text: what was made of this text is known by it."""
        return self.record["fingerprint"]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "folder": str(self.folder),
            "fingerprint": self.fingerprint,
            "funnel": self.funnel.to_dict(),
            "timing": self.timing.to_dict(),
        }

    def __str__(self) -> str:
        return f"{self.funnel}\n{self.timing}"


def read_curation(folder: Path) -> Curation:
    """A finished curation.

    Raises:
        DataError: the folder holds none, or it is damaged.
    """
    try:
        record, funnel, timing = (
            json.loads((folder / name).read_text(encoding="utf-8")) for name in (CURATION, FUNNEL, TIMING)
        )
        return Curation(folder=folder, record=record, funnel=Funnel.from_dict(funnel), timing=Timing.from_dict(timing))
    except FileNotFoundError as error:
        raise DataError(
            f"{folder} holds no finished curation: there is no {Path(error.filename).name}",
            hint="make one: mamba-slm data curate INPUT --kind web --out FOLDER",
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder} is damaged: {error!r}", hint="delete it and curate again") from error
