"""The folder of a result, put together from what the tasks have written, all at once or not at all.

part-00000.jsonl.zst, …                text, id, source, metadata with quality and kind: what tokenizing reads
removed/removed-00000.jsonl.zst, …     id, source, metadata, removed (rule, value, threshold, detail); with
                                       keep_rejects the text, too
curation.json                          settings, sources, licences, cuts, files with checksums, totals
funnel.json, report.html               what each rule removed, with examples
timing.json                            planned and real time: the only file that differs between two runs
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.config import to_dict
from mamba_slm.core.files import folder_written_atomically, fsync_folder, write_json_atomic, write_text_atomic
from mamba_slm.data.curation.curation import FUNNEL, REMOVED_FOLDER, REPORT, TIMING, Curation, read_curation
from mamba_slm.data.curation.funnel import Funnel
from mamba_slm.data.curation.plan import FORMAT_VERSION, CuratePlan, fingerprint_of, source_of
from mamba_slm.data.curation.quantile import Cut
from mamba_slm.data.curation.report import render_report
from mamba_slm.data.curation.signals.score import TOP_SCORE
from mamba_slm.data.curation.surviving import Survivors
from mamba_slm.data.curation.tally import Tally
from mamba_slm.data.curation.timing import Estimate, Timing
from mamba_slm.data.curation.verdict import Kind
from mamba_slm.data.curation.written import KEPT_FILE, REMOVED_FILE
from mamba_slm.data.engine.manifest import MANIFEST, read_manifest
from mamba_slm.data.folders import CURATION


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the tasks have left in the work folder."""

    survivors: tuple[Survivors, ...]
    written: tuple[Path, ...]
    """In the same order."""

    cuts: Mapping[Kind, Cut]
    quarantined: tuple[str, ...]
    """Parts that were set aside, with their errors."""


@dataclass(frozen=True, kw_only=True)
class Clock:
    """What is needed to say how long it took."""

    planned: Estimate
    workers: int
    begin: float
    """`time.monotonic` when this call began."""

    is_resumed: bool


def assemble(plan: CuratePlan, work: Path, out: Path, outcome: Outcome, clock: Clock) -> Curation:
    """Write the result into the work folder, then move it to `out`."""
    funnel, files = funnel_of(outcome), []
    result = work / "result"
    if not result.exists():
        with folder_written_atomically(result) as folder:
            (folder / REMOVED_FOLDER).mkdir()
            for number, written in enumerate(outcome.written):
                link_or_copy(written / REMOVED_FILE, folder / REMOVED_FOLDER / f"removed-{number:05d}.jsonl.zst")
                if (written / KEPT_FILE).exists():
                    name = f"part-{len(files):05d}.jsonl.zst"
                    link_or_copy(written / KEPT_FILE, folder / name)
                    files.append({"name": name, **json.loads((written / "summary.json").read_text(encoding="utf-8"))})
            record = curation_record(plan, outcome, funnel, files)
            timing = timing_of(work, outcome, funnel, clock)
            write_json_atomic(folder / CURATION, record)
            write_json_atomic(folder / FUNNEL, funnel.to_dict())
            write_json_atomic(folder / TIMING, timing.to_dict())
            write_text_atomic(folder / REPORT, render_report(record, funnel))
    os.rename(result, out)
    fsync_folder(out.parent)
    return read_curation(out)


def link_or_copy(file: Path, to: Path) -> None:
    """The same file under another name, where the file system allows that."""
    try:
        os.link(file, to)
    except OSError:
        shutil.copyfile(file, to)


def funnel_of(outcome: Outcome) -> Funnel:
    """The sum of all tasks."""
    kinds: dict[str, Tally] = {}
    for part, written in zip(outcome.survivors, outcome.written, strict=True):
        tally = kinds.setdefault(part.kind, Tally())
        for folder in (part.folder, written):
            tally.add(Tally.from_dict(json.loads((folder / "tally.json").read_text(encoding="utf-8"))))
    return Funnel(kinds=dict(sorted(kinds.items())), quarantined=outcome.quarantined)


def curation_record(plan: CuratePlan, outcome: Outcome, funnel: Funnel, files: list[dict[str, Any]]) -> dict[str, Any]:
    """What curation.json says."""
    settings, total = to_dict(plan.config), funnel.total
    return {
        "format_version": FORMAT_VERSION,
        "fingerprint": fingerprint_of([FORMAT_VERSION, settings, [[one["sha256"], one["documents"]] for one in files]]),
        "plan": plan.fingerprint,
        "kinds": list(plan.kinds),
        "sources": [source_of(one) for one in plan.inputs],
        "settings": settings,
        "reading": to_dict(plan.options),
        "benchmarks": plan.benchmarks
        and {
            "fingerprint": plan.benchmarks.fingerprint,
            "files": [asdict(file) for file in plan.benchmarks.files],
        },
        "cuts": {
            kind: {"share": cut.share, "lowest_score": cut.digits[0] / TOP_SCORE} for kind, cut in outcome.cuts.items()
        },
        "totals": {
            "read": asdict(total.read),
            "written": asdict(total.written),
            "removed": {
                row.rule: {"documents": row.amount.documents, "bytes": row.amount.bytes} for row in funnel.rows()
            },
            "cleaned_bytes": total.cleaned_bytes,
            "changes": dict(sorted(total.changes.items())),
        },
        "files": files,
    }


def timing_of(work: Path, outcome: Outcome, funnel: Funnel, clock: Clock) -> Timing:
    """Times of all tasks, from what they and the engine wrote down."""
    seconds: Counter[str] = Counter()
    for part in outcome.survivors:
        seconds.update(json.loads((part.folder / "seconds.json").read_text(encoding="utf-8")))
    for entry in read_manifest(work / MANIFEST):
        stage = entry["stage"].partition(".")[0]
        if stage != "chained" and entry["state"] == "done":
            seconds["writing" if stage == "written" else stage] += entry["seconds"]
    sizes = [file.stat().st_size for file in work.rglob("*") if file.is_file()]
    result = sum((folder / KEPT_FILE).stat().st_size for folder in outcome.written if (folder / KEPT_FILE).exists())
    return Timing(
        planned=clock.planned,
        workers=clock.workers,
        seconds=time.monotonic() - clock.begin,
        is_resumed=clock.is_resumed,
        core_seconds=dict(seconds),
        text_bytes=funnel.total.read.bytes,
        work_bytes=sum(sizes),
        result_bytes=result,
        documents=funnel.total.read.documents,
    )
