"""From text to text worth training on: a list of tasks that any engine runs, and a funnel at the end.

    stage        a task per    does
    chained      part          reads, and judges each document by itself: quality, language, …
    duplicates.* part, range   as `duplicates/find.py`, among what is above the quality cut of its kind
    lines        part, range   as `lines/find.py`, among what then stays of web pages
    written      part          what stays; what goes, and why

Everything in between is in OUT.work, beside the result and deleted at its end. A killed run continues there, with any
number of workers. The result is a function of the documents and the settings; see `assembly.py` for its files.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.core.files import write_json_atomic
from mamba_slm.data.curation.assembly import Clock, Outcome, assemble
from mamba_slm.data.curation.boilerplate import KINDS_WITH_BOILERPLATE
from mamba_slm.data.curation.chained import BLOCKS_FILE, chain_part
from mamba_slm.data.curation.config import MAX_DOCUMENT_BYTES, CurateConfig, parse_inputs
from mamba_slm.data.curation.curation import Curation, read_curation
from mamba_slm.data.curation.duplicates.find import find_duplicates
from mamba_slm.data.curation.duplicates.verdicts import Duplicates
from mamba_slm.data.curation.lines.find import BoilerplateFiles, find_boilerplate
from mamba_slm.data.curation.plan import CuratePlan, plan_of
from mamba_slm.data.curation.staying import Staying
from mamba_slm.data.curation.surviving import Survivors, find_cuts
from mamba_slm.data.curation.timing import Estimate, estimate
from mamba_slm.data.curation.verdict import Kind
from mamba_slm.data.curation.written import write_part
from mamba_slm.data.engine.engine import Engine
from mamba_slm.data.engine.ledger import Reporting
from mamba_slm.data.engine.local import local_engine
from mamba_slm.data.engine.manifest import MANIFEST, locked, read_manifest
from mamba_slm.data.engine.room import check_room
from mamba_slm.data.engine.task import Task, delete_leftovers
from mamba_slm.data.folders import CURATION
from mamba_slm.data.reading.options import ReadOptions

PLAN, ESTIMATE = "plan.json", "estimate.json"
DEFAULT_OPTIONS = ReadOptions(max_document_bytes=MAX_DOCUMENT_BYTES)
MakeEngine = Callable[[Path, str], contextlib.AbstractContextManager[Engine]]
"""Makes the engine for a work folder and the fingerprint of what is done there."""


def curate(
    inputs: Sequence[str],
    out: Path | str,
    *,
    kind: Kind | None = None,
    config: CurateConfig | None = None,
    options: ReadOptions | None = None,
    benchmarks: Sequence[str | Path] = (),
    workers: int = 1,
    make_engine: MakeEngine | None = None,
    reporting: Reporting | None = None,
) -> Curation:
    """Curate text; the same call again continues after a kill, and returns at once when all is done.

    Args:
        inputs: files, folders or python-library, each as PATH or KIND=PATH; their order means nothing.
        out: the folder of the result; must not exist, or hold the result of the same plan.
        kind: of the inputs that do not say their own.
        config: all decisions.
        options: how files are read. With on_error="skip" a part whose tasks fail again and again is left out, too.
        benchmarks: files and folders of benchmarks; documents that hold one of their questions go.
        workers: processes of this machine.
        make_engine: something else that runs the tasks; then `workers` is only for the estimate.
        reporting: who is told what is going on.

    Raises:
        ConfigError, DataError: settings, or input that cannot be read; DiskFullError, SetupError: as `Engine.run`.
        RunLockedError: another process is making this result.
    """
    begin = time.monotonic()
    if workers < 1:
        raise ConfigError(f"workers must be at least 1, got {workers}", hint="as many as there are cores: --workers 8")
    reporting, out = reporting or Reporting(), Path(out)
    plan = plan_of(parse_inputs(inputs, kind), config or CurateConfig(), options or DEFAULT_OPTIONS, benchmarks)
    work = out.absolute().with_name(f"{out.name}.work")  # absolute: tasks may run in other folders
    if out.exists():
        return finished(out, work, plan, reporting.say)
    is_resumed = is_continued(work, plan)
    engine_of = make_engine or functools.partial(own_engine, workers, reporting)
    with engine_of(work, plan.fingerprint) as engine:  # which locks the folder
        delete_leftovers(work)
        write_json_atomic(work / PLAN, plan.to_dict())
        planned = planned_in(work, plan, workers)
        reporting.say(str(planned))
        outcome = run_stages(plan, work, engine)
        clock = Clock(planned=planned, workers=workers, begin=begin, is_resumed=is_resumed)
        curation = assemble(plan, work, out, outcome, clock)
    shutil.rmtree(work, ignore_errors=True)
    return curation


def own_engine(
    workers: int, reporting: Reporting, folder: Path, configuration: str
) -> contextlib.AbstractContextManager[Engine]:
    """Processes of this machine; 1 worker is this process."""
    return local_engine(workers, folder=folder, configuration=configuration, reporting=reporting)


def finished(out: Path, work: Path, plan: CuratePlan, say: Callable[[str], None]) -> Curation:
    """The result that is there already.

    Raises:
        DataError: it is not that of this plan.
    """
    if (out / CURATION).is_file():
        found = read_curation(out)
        if found.record.get("plan") == plan.fingerprint:
            shutil.rmtree(work, ignore_errors=True)
            say(f"{out} is finished already; this is what was found then")
            return found
        raise DataError(
            f"{out} is a curation of other input or with other settings",
            hint="choose another folder with --out, or delete this one first",
        )
    raise DataError(f"{out} exists already", hint="choose another folder with --out, or delete this one first")


def is_continued(work: Path, plan: CuratePlan) -> bool:
    """Whether an earlier call has begun this plan in its work folder; another plan that did nothing yet is forgotten.

    Raises:
        DataError: the folder holds work of another plan; RunLockedError: another process works there.
    """
    path = work / PLAN
    if not path.exists():
        return False
    if json.loads(path.read_text(encoding="utf-8")) == plan.to_dict():
        return True
    lock = locked(work)
    try:
        if any(entry["state"] == "done" for entry in read_manifest(work / MANIFEST)):
            raise DataError(
                f"{work} holds the unfinished curation of other input or with other settings",
                hint=f"repeat the command as it was, delete the folder (rm -r {work}), or choose another --out",
            )
        shutil.rmtree(work)
    finally:
        os.close(lock)
    return False


def planned_in(work: Path, plan: CuratePlan, workers: int) -> Estimate:
    """The estimate that the first call for this work folder made."""
    path = work / ESTIMATE
    if path.exists():
        return Estimate(**json.loads(path.read_text(encoding="utf-8")))
    found = estimate(plan, workers)
    check_room(work, round(found.work_bytes))
    write_json_atomic(path, asdict(found))
    return found


def run_stages(plan: CuratePlan, work: Path, engine: Engine) -> Outcome:
    """Run all tasks."""
    index = None
    if plan.benchmarks is not None:
        index = work / "benchmarks.index"
        if not index.exists():
            plan.benchmarks.save(index)
    chained = [work / "chained" / f"{number:06d}" for number in range(len(plan.parts))]
    tasks = [
        Task(
            out=out,
            call=functools.partial(chain_part, one.part, kind=one.kind, config=plan.config, benchmarks=index, out=out),
            size=one.part.size_bytes,
        )
        for one, out in zip(plan.parts, chained, strict=True)
    ]
    quarantined = engine.run(tasks, stage="chained", may_quarantine=plan.options.on_error == "skip")
    set_aside = {one.task.out: one.reason for one in quarantined}
    there = [(one, out) for one, out in zip(plan.parts, chained, strict=True) if out not in set_aside]
    if not there:
        raise DataError(
            f"none of {len(chained)} parts of the input could be read; the last error: {list(set_aside.values())[-1]}",
            hint=f"{work / 'manifest.jsonl'} has all errors; to try again, delete the folder: rm -r {work}",
        )
    folders: dict[Kind, list[Path]] = {}
    for one, out in there:
        folders.setdefault(one.kind, []).append(out)
    cuts = find_cuts(folders, plan.config.drop_share)
    survivors = [Survivors(name=one.part.name, folder=out, kind=one.kind, cut=cuts[one.kind]) for one, out in there]
    duplicates = None
    if plan.config.duplicates is not None:
        duplicates = find_duplicates(
            survivors, work / "duplicates", plan.config.duplicates, run_tasks=engine.for_stage("duplicates")
        )
    boilerplate = boilerplate_of(plan, survivors, duplicates, work, engine)
    written = [work / "written" / out.name for _, out in there]
    engine.run(
        [
            Task(
                out=out,
                call=functools.partial(
                    write_part,
                    part,
                    number,
                    duplicates,
                    boilerplate=boilerplate if part.kind in KINDS_WITH_BOILERPLATE else None,
                    min_characters=getattr(plan.config.rules, part.kind).min_characters or 1,
                    keep_rejects=plan.config.keep_rejects,
                    out=out,
                ),
                size=(part.folder / BLOCKS_FILE).stat().st_size + 1,
            )
            for number, (part, out) in enumerate(zip(survivors, written, strict=True))
        ],
        stage="written",
    )
    names = {out: one.part.name for one, out in zip(plan.parts, chained, strict=True)}
    return Outcome(
        survivors=tuple(survivors),
        written=tuple(written),
        cuts=cuts,
        quarantined=tuple(f"{names[out]}: {reason}" for out, reason in set_aside.items()),
    )


def boilerplate_of(
    plan: CuratePlan, survivors: Sequence[Survivors], duplicates: Duplicates | None, work: Path, engine: Engine
) -> BoilerplateFiles | None:
    """The lines that stand in too many of the documents that stay; None where nothing is looked for."""
    parts = [
        Staying(part=part, number=number, duplicates=duplicates)
        for number, part in enumerate(survivors)
        if part.kind in KINDS_WITH_BOILERPLATE
    ]
    if plan.config.lines is None or not parts:
        return None
    return find_boilerplate(parts, work / "lines", plan.config.lines, run_tasks=engine.for_stage("lines"))
