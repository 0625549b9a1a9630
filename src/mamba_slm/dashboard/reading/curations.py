"""A finished curation for pages: its funnel, and the documents that each rule removed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamba_slm.core.errors import DataError
from mamba_slm.dashboard.reading.cursors import Cursors
from mamba_slm.dashboard.reading.facts import version_of
from mamba_slm.data.compressed import open_bytes
from mamba_slm.data.folders import CURATION
from mamba_slm.data.provenance import read_object

if TYPE_CHECKING:
    from mamba_slm.data.curation.tally import Amount

FUNNEL, REMOVED = "funnel.json", "removed"
MOST_SHOWN = 20
MOST_CHARACTERS = 6000
MOST_LINE_BYTES = 128 << 20


def curation_at(folder: Path) -> dict[str, Any]:
    """What went in, what each rule removed with examples, what came out.

    Raises:
        DataError: there is no finished curation, or it is damaged.
    """
    if not all((folder / name).is_file() for name in (CURATION, FUNNEL)):
        raise DataError(
            f"{folder.name} holds no finished curation",
            hint="make one below, or look at its job; a killed one goes on when its command is repeated",
        )
    from mamba_slm.data.curation.funnel import BYTES_PER_TOKEN, Funnel

    record, content = read_object(folder / CURATION), read_object(folder / FUNNEL)
    try:
        funnel = Funnel.from_dict(content)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(
            f"{folder / FUNNEL} is damaged: {error!r}", hint="delete the folder and curate again"
        ) from error

    def amount(of: Amount) -> dict[str, int]:
        return {"documents": of.documents, "bytes": of.bytes, "tokens": round(of.bytes / BYTES_PER_TOKEN)}

    total = funnel.total
    left, rows = total.read.documents, []
    for row in funnel.rows():
        left -= row.amount.documents
        examples = [{"id": one.id, "reason": one.reason, "text": one.text} for one in row.examples]
        rows.append({"rule": row.rule, **amount(row.amount), "left": left, "examples": examples})
    return {
        "read": amount(total.read),
        "rows": rows,
        "written": amount(total.written),
        "cleaned_tokens": round(total.cleaned_bytes / BYTES_PER_TOKEN),
        "changes": dict(total.changes.most_common()),
        "unread": dict(total.unread.most_common()),
        "problems": total.problems[:5],
        "quarantined": list(funnel.quarantined),
        "scores": {str(score): count for score, count in sorted(total.scores.items())},
        "bytes_per_token": BYTES_PER_TOKEN,
        "sources": record.get("sources") or [],
        "fingerprint": str(record.get("fingerprint")),
        "drop_share": (record.get("settings") or {}).get("drop_share"),
        "report": str(folder / "report.html"),
    }


class Removed:
    """The documents that went, page by page.

    Args:
        shows: whether a file may be shown: a folder may hold links to elsewhere.
    """

    def __init__(self, shows: Callable[[Path], bool]) -> None:
        self.shows = shows
        self.cursors: Cursors[dict[str, Any]] = Cursors()

    def read(self, folder: Path, *, rule: str, first: int, most: int) -> dict[str, Any]:
        """Documents that a rule removed; all of them without a rule. Their texts are there where they were kept.

        Raises:
            DataError: no curation, or a file is damaged.
        """
        found = sorted((folder / REMOVED).glob("removed-*.jsonl.zst"))
        files = [file for file in found if file.is_file() and self.shows(file.resolve())]
        if not files:
            raise DataError(f"{folder.name} holds no removed documents", hint="give the folder of a curation")
        page = self.cursors.read(
            (str(folder), version_of(folder / CURATION)),
            lambda _: (records(files), 0),
            first=first,
            most=min(max(most, 1), MOST_SHOWN),
            is_wanted=lambda found: not rule or found["rule"] == rule,
        )
        return {
            "rows": [{"number": number, **found} for number, found in page.items],
            "next": page.next,
            "is_end": page.is_end,
        }


def records(files: list[Path]) -> Iterator[dict[str, Any]]:
    """What stands in files of removed documents.

    Raises:
        DataError: one is damaged.
    """
    for file in files:
        with open_bytes(file) as stream:
            while line := stream.readline(MOST_LINE_BYTES):
                try:
                    found = json.loads(line)
                    reason = found["removed"]
                    yield {
                        "id": str(found["id"]),
                        "source": str(found.get("source", "")),
                        "rule": str(reason["rule"]),
                        "detail": str(reason.get("detail") or ""),
                        "value": reason.get("value"),
                        "threshold": reason.get("threshold"),
                        "text": found["text"][:MOST_CHARACTERS] if isinstance(found.get("text"), str) else None,
                    }
                except (ValueError, KeyError, TypeError) as error:
                    raise DataError(
                        f"{file} is damaged: {error!r}", hint="delete the folder and curate again"
                    ) from error
