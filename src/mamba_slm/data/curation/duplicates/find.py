"""All stages in order, each a list of tasks that read and write files.

    stage      a task per      reads                         writes
    signed     part            the documents                 hashes, ranks, ids; runs of content hashes and band keys
    copies     range of keys   runs of content hashes        exact copies
    copied     part            copies                        the part's copies
    matched    range of keys   runs of band keys             candidate pairs
    extracted  part            the documents again, if any   shingle sets of the candidates
    verified   part            pairs, shingle sets           edges: pairs at or above the threshold
    resolved   all             edges                         what goes
    judged     part            copied, resolved              the verdict of each document that goes

How the work is cut depends on the parts and the config only, so any number of workers, or others after a kill, go on
with the same tasks.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from mamba_slm.core.errors import DataError
from mamba_slm.core.files import write_json_atomic
from mamba_slm.data.curation.duplicates.config import DuplicatesConfig
from mamba_slm.data.curation.duplicates.exact import copies_of_part, find_copies
from mamba_slm.data.curation.duplicates.extracting import ExtractedParts, extract_part
from mamba_slm.data.curation.duplicates.kernels import KernelChoice
from mamba_slm.data.curation.duplicates.matching import find_pairs
from mamba_slm.data.curation.duplicates.parts import Part
from mamba_slm.data.curation.duplicates.resolution import resolve
from mamba_slm.data.curation.duplicates.runs import key_ranges, ranges_needed, runs_of
from mamba_slm.data.curation.duplicates.signing import SignedParts, sign_part
from mamba_slm.data.curation.duplicates.verdicts import Duplicates, judge_part
from mamba_slm.data.curation.duplicates.verification import verify_part
from mamba_slm.data.engine.local import local_engine
from mamba_slm.data.engine.task import RunTasks, Task, delete_leftovers

FORMAT_VERSION = 1
STAGES = ("signed", "copies", "copied", "matched", "extracted", "verified", "resolved", "judged")


def find_duplicates(
    parts: Sequence[Part],
    folder: Path,
    config: DuplicatesConfig | None = None,
    *,
    workers: int = 1,
    run_tasks: RunTasks | None = None,
    kernel: KernelChoice = "auto",
    say: Callable[[str], None] = lambda line: None,
) -> Duplicates:
    """Find which documents are duplicates of others, exactly as `definition.py` says.

    Args:
        parts: the documents; each part is read twice.
        folder: where intermediate files go, about 0.5 KB per document; what an earlier call there has finished is
            not done again. It can be deleted when the result is no longer needed.
        workers: processes of this machine.
        run_tasks: something else to run the tasks of a stage; then `workers` does not matter.
        say: told once per stage what is done.

    Returns:
        What goes and why. It is the same for any order and division of the documents and any number of workers.

    Raises:
        DataError: a text is not valid Unicode, or a part changed between its two readings.
        ConfigError: `workers` is below 1.
        SetupError: worker after worker died; the same call again continues.
    """
    if run_tasks is None:
        with local_engine(workers) as engine:
            run = engine.for_stage("duplicates")
            return find_duplicates(parts, folder, config, run_tasks=run, kernel=kernel, say=say)
    config = config or DuplicatesConfig()
    start_or_continue(folder, parts, config)
    of = {stage: functools.partial(path_of, folder / stage) for stage in STAGES}
    every = range(len(parts))

    def stage(name: str, calls: Sequence[Callable[..., None]]) -> tuple[Path, ...]:
        say(f"duplicates: {name}, {len(calls)} {'task' if len(calls) == 1 else 'tasks'}")
        outs = tuple(of[name](number) for number in range(len(calls)))
        run_tasks([Task(out=out, call=functools.partial(call, out=out)) for call, out in zip(calls, outs, strict=True)])
        return outs

    def bound(function: Callable[..., None], *arguments: object, **named: object) -> Callable[..., None]:
        return functools.partial(function, *arguments, **named)

    signing = [bound(sign_part, part, config=config, kernel=kernel) for part in parts]
    signed = SignedParts(folders=stage("signed", signing))
    summaries = [json.loads((path / "summary.json").read_text()) for path in signed.folders]
    exact_runs, band_runs = (
        [run for number in every for run in runs_of(signed.folders[number], number, name)]
        for name in ("exact", "bands")
    )
    ranges = key_ranges(ranges_needed(sum(row["documents"] for row in summaries), config.memory_bytes))
    found = stage(
        "copies", [bound(find_copies, exact_runs, keys, signed, config=config, kernel=kernel) for keys in ranges]
    )
    copied = stage("copied", [bound(copies_of_part, found, number, signed) for number in every])
    ranges = key_ranges(ranges_needed(sum(row["records"] for row in summaries), config.memory_bytes))
    matched = stage(
        "matched", [bound(find_pairs, band_runs, keys, copied, signed, config=config, kernel=kernel) for keys in ranges]
    )
    extracting = [
        bound(extract_part, part, number, signed.folders[number], matched, kernel=kernel)
        for number, part in enumerate(parts)
    ]
    extracted = ExtractedParts(folders=stage("extracted", extracting))
    verifying = [bound(verify_part, n, matched, signed, extracted, config=config, kernel=kernel) for n in every]
    verified = stage("verified", verifying)
    (resolved,) = stage("resolved", [bound(resolve, verified, config=config)])
    judged = stage("judged", [bound(judge_part, number, signed, copied[number], resolved) for number in every])
    return Duplicates(
        signed=signed,
        judged=judged,
        pairs_not_compared=total_of(matched, "not_compared"),
        pairs_compared=total_of(verified, "compared"),
    )


def path_of(folder: Path, number: int) -> Path:
    """Where a task writes."""
    return folder / f"{number:06d}"


def total_of(folders: Sequence[Path], name: str) -> int:
    """The sum of a number in the summaries of tasks."""
    return sum(json.loads((folder / "summary.json").read_text())[name] for folder in folders)


def start_or_continue(folder: Path, parts: Sequence[Part], config: DuplicatesConfig) -> None:
    """Record what is looked for, or check that the folder is about the same."""
    if not parts:
        raise DataError("there are no documents to look for duplicates in", hint="give at least one part")
    plan = {"format_version": FORMAT_VERSION, "config": asdict(config), "parts": [part.name for part in parts]}
    path = folder / "plan.json"
    if path.exists() and json.loads(path.read_text()) != plan:
        raise DataError(
            f"{folder} holds work for other documents, another config or another version",
            hint=f"delete it, or choose another folder: rm -r {folder}",
        )
    if not path.exists():
        write_json_atomic(path, plan)
    for stage in STAGES:
        (folder / stage).mkdir(exist_ok=True)
        delete_leftovers(folder / stage)
