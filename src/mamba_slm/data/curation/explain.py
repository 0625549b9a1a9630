"""What happened to one document, and what every stage saw in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import DataError
from mamba_slm.data.compressed import open_bytes
from mamba_slm.data.curation.chain import Chain
from mamba_slm.data.curation.curation import REMOVED_FOLDER, read_curation
from mamba_slm.data.curation.judged import Judged
from mamba_slm.data.curation.plan import CuratePlan
from mamba_slm.data.curation.verdict import Kind, Removed
from mamba_slm.data.document import Document
from mamba_slm.data.folders import CURATED_FILES, CURATION
from mamba_slm.data.reading.report import ReadReport
from mamba_slm.runs.markdown import printable

BEGINNING_CHARACTERS = 200


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """`str` is what a person reads."""

    id: str
    source: str
    kind: str
    beginning: str
    """Of its text."""

    stages: tuple[tuple[str, tuple[str, ...]], ...]
    """What each stage saw, up to the one that removed it."""

    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "stages": {name: list(lines) for name, lines in self.stages}}

    def __str__(self) -> str:
        lines = [f"{self.id} of {self.source} ({self.kind})", f"  {self.beginning}"]
        for name, seen in self.stages:
            lines += [name, *(f"  {line}" for line in seen or ("nothing against it",))]
        return "\n".join([*lines, f"=> {self.verdict}"])


def explain(plan: CuratePlan, id: str, out: Path | None) -> Explanation:
    """Judge one document of the input again, and look up what became of it among all others.

    Args:
        plan: where it is read, and the settings.
        id: as reports and removed/ show it; the first document of that name.
        out: the folder of the result; None, or not there yet, leaves out what only all documents together decide.

    Raises:
        DataError: no such document.
    """
    document, kind = find_document(plan, id)
    chain = Chain(plan.config, kind, plan.benchmarks)
    (one,) = [one for one in chain.judge([document]) if one.document.id == id] or [None]
    if one is None:
        raise no_such_document(id)
    stages, text, removed = [], one.document.text, None
    for step in chain.steps:
        stages.append((step.name, tuple(step.measured(text))))
        judged = type(one)(document=one.document, text=text)
        step.apply([judged])
        text, removed = judged.text, judged.removed
        if removed is not None:
            break
    verdict = f"removed by {removed}" if removed is not None else after_the_chain(plan, out, one)
    beginning = printable(" ".join(one.document.text[:BEGINNING_CHARACTERS].split()))
    return Explanation(
        id=id, source=one.document.source, kind=kind, beginning=beginning, stages=tuple(stages), verdict=verdict
    )


def find_document(plan: CuratePlan, id: str) -> tuple[Document, Kind]:
    """The first document of that name, whole: #1, #2, … are parts of a book."""
    whole, _, number = id.rpartition("#")
    names = {id, whole} if number.isdigit() else {id}
    for planned in plan.parts:
        for document in planned.part.documents(ReadReport()):
            if document.id in names:
                return document, planned.kind
    raise no_such_document(id)


def no_such_document(id: str) -> DataError:
    """The error for a name that no document has."""
    return DataError(
        f"there is no document {id!r} in the input",
        hint="ids are those in report.html and removed/, such as pages/a.jsonl:17",
    )


def after_the_chain(plan: CuratePlan, out: Path | None, one: Judged) -> str:
    """What the result says about a document that passed every stage of its own."""
    passed = f"passes every stage with quality {one.quality:.5f}"
    if out is None or not (out / CURATION).is_file():
        return f"{passed}; the quality cut and duplicates depend on all documents: curate first"
    if read_curation(out).record.get("plan") != plan.fingerprint:
        return f"{passed}; {out} was made of other input or with other settings, and says nothing about it"
    for file, row in rows_about(out, one.document):
        if "removed" in row:
            return f"{passed}, but removed by {Removed(**row['removed'])} ({file.relative_to(out)})"
        return f"{passed}, and is in {file.relative_to(out)}"
    return f"{passed}, but {out} does not have it: it is damaged"


def rows_about(folder: Path, document: Document) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The lines of a result about a document, with the file in which they are."""
    wanted = json.dumps(document.id, ensure_ascii=False).encode(errors="replace")
    for file in [*sorted(folder.glob(CURATED_FILES)), *sorted((folder / REMOVED_FOLDER).glob("*.jsonl.zst"))]:
        with open_bytes(file) as lines:
            for line in lines:
                if wanted in line:
                    row = json.loads(line)
                    if (row["id"], row["source"]) == (document.id, document.source):
                        yield file, row
