"""Text to a folder that training reads: one task per part of the input, then the shards of all.

OUT/train/, OUT/validation/     token shards
OUT/tokenizer.json              what made the ids

What the tasks write is in OUT.work until the end. A killed run continues there, with any number of workers. The result
depends on the documents, the tokenizer and the settings alone.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mamba_slm.core.errors import ConfigError, DataError, DiskFullError, MambaSlmError
from mamba_slm.core.files import folder_written_atomically
from mamba_slm.data.encode import EncodeReport
from mamba_slm.data.engine.engine import Engine
from mamba_slm.data.engine.ledger import Reporting
from mamba_slm.data.engine.local import local_engine
from mamba_slm.data.engine.room import check_room
from mamba_slm.data.engine.task import Task, delete_leftovers
from mamba_slm.data.folders import find_files
from mamba_slm.data.provenance import Origin, origin_of
from mamba_slm.data.reading.options import ReadOptions
from mamba_slm.data.reading.parts import PART_BYTES, InputPart, plan_parts
from mamba_slm.data.reading.report import ReadReport
from mamba_slm.data.shard_format import dtype_of
from mamba_slm.data.shards import MAX_SHARD_TOKENS
from mamba_slm.data.tokenization.assembly import PartTokens, write_split
from mamba_slm.data.tokenization.part import SPLITS, SUMMARY, TokenizePart
from mamba_slm.data.tokenization.read_record import report_of
from mamba_slm.text.bulk import Speed
from mamba_slm.text.tokenizer import Tokenizer

FORMAT_VERSION = 1
"""Of what tasks write; another number is another plan."""
MakeEngine = Callable[[Path, str], contextlib.AbstractContextManager[Engine]]
"""Makes the engine for a work folder and the fingerprint of what is done there."""


@dataclass(frozen=True, kw_only=True)
class Tokenization:
    """What was written."""

    folder: Path

    parts: dict[str, EncodeReport]
    """By "train" and, if anything is held out, "validation"."""

    read: ReadReport
    """What was read and left out."""

    notes: tuple[str, ...]
    """What a user should know: nothing held out, a faster encoder that turned out wrong, …"""


@dataclass(frozen=True, kw_only=True)
class TokenizePlan:
    """Everything that the result depends on."""

    parts: tuple[tuple[Origin, InputPart], ...]
    tokenizer_fingerprint: str
    validation_share: float
    max_shard_tokens: int
    speed: Speed

    @property
    def fingerprint(self) -> str:
        """A hash of the plan: of the names and sizes of its files, not of what is in them."""
        content = [
            FORMAT_VERSION,
            [[repr(part), part.size_bytes] for _, part in self.parts],
            self.tokenizer_fingerprint,
            self.validation_share,
            self.speed,
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def tokenize(
    inputs: Sequence[str],
    tokenizer: Tokenizer,
    out: Path | str,
    *,
    reading: ReadOptions | None = None,
    validation_share: float = 0.02,
    max_shard_tokens: int = MAX_SHARD_TOKENS,
    part_bytes: int = PART_BYTES,
    speed: Speed = "auto",
    workers: int = 1,
    make_engine: MakeEngine | None = None,
    reporting: Reporting | None = None,
) -> Tokenization:
    """Tokenize text; the same call again continues after a kill.

    Args:
        inputs: files, folders (also the result of a curation), or python-library.
        tokenizer: makes the ids.
        out: must not exist; appears complete or not at all.
        reading: how files are read. With on_error="skip" a part whose task fails again and again is left out, too.
        validation_share: of the documents to hold out, in [0, 1), chosen by a hash of their text.
        max_shard_tokens: a shard is closed before it grows beyond this.
        part_bytes: about how much one task reads; does not change the result.
        speed: "exact" never uses `fastokens`.
        workers: processes of this machine.
        make_engine: something else that runs the tasks.
        reporting: who is told what is going on.

    Raises:
        ConfigError, DataError: settings, or input that cannot be read; nothing is left behind.
        DiskFullError: no space left; what is done stays in OUT.work, and the same call continues.
        RunLockedError: another process is writing this result.
    """
    begin = time.monotonic()
    reading, reporting, out = reading or ReadOptions(), reporting or Reporting(), Path(out)
    if not 0 <= validation_share < 1:
        raise ConfigError(f"validation_share must lie in [0, 1), got {validation_share}")
    if out.exists():
        raise DataError(f"{out} exists already", hint="choose another folder with --out, or delete this one first")
    plan = TokenizePlan(
        parts=tuple(
            (origin, part)
            for name in inputs
            for origin in [origin_of(name)]
            for part in plan_parts([name], reading, part_bytes=part_bytes)
        ),
        tokenizer_fingerprint=tokenizer.fingerprint,
        validation_share=validation_share,
        max_shard_tokens=max_shard_tokens,
        speed=speed,
    )
    work, is_mine = out.with_name(f"{out.name}.work"), False
    engine_of = make_engine or functools.partial(own_engine, workers, reporting)
    try:
        with engine_of(work, plan.fingerprint) as engine:  # which locks the folder
            is_mine = True
            run = TokenizeRun(
                plan=plan,
                work=work,
                tokenizer=tokenizer,
                threads=None if workers == 1 and make_engine is None else 1,
                may_quarantine=reading.on_error == "skip",
            )
            parts, notes = run.tokens(engine, reporting.say)
            read = report_of(part.summary["read"] for part in parts)
            for name in inputs:
                read.other_files.update(others_in(name, reading))
            check_any_text(inputs, parts, read)
            reports, more = run.assemble(parts, out, begin)
    except MambaSlmError as error:
        if is_mine and not isinstance(error, DiskFullError):
            shutil.rmtree(work, ignore_errors=True)
        raise
    shutil.rmtree(work, ignore_errors=True)
    return Tokenization(folder=out, parts=reports, read=read, notes=(*notes, *more))


def own_engine(
    workers: int, reporting: Reporting, folder: Path, configuration: str
) -> contextlib.AbstractContextManager[Engine]:
    """Processes of this machine; 1 worker is this process."""
    return local_engine(workers, folder=folder, configuration=configuration, reporting=reporting)


@dataclass(frozen=True, kw_only=True)
class TokenizeRun:
    """A plan and where it is carried out."""

    plan: TokenizePlan
    work: Path
    tokenizer: Tokenizer
    threads: int | None
    """Of each task's encoder."""
    may_quarantine: bool

    def tokens(self, engine: Engine, say: Callable[[str], None]) -> tuple[list[PartTokens], tuple[str, ...]]:
        """Run the tasks. If the fast encoder is wrong in one, all are done again by the exact one."""
        tokenizer_file = self.tokenizer.save(self.work)
        parts, notes = self.stage(engine, self.plan.speed, tokenizer_file)
        different = next((part.summary["different"] for part in parts if "different" in part.summary), None)
        if different is not None:
            notes = (f"tokenized again by tokenizers alone: {different}",)
            say(notes[0])
            parts, more = self.stage(engine, "exact", tokenizer_file)
            notes += more
        return parts, notes

    def stage(self, engine: Engine, speed: Speed, tokenizer_file: Path) -> tuple[list[PartTokens], tuple[str, ...]]:
        """All tasks with one kind of encoder; what could not be done is told."""
        folder = self.work / speed
        folder.mkdir(exist_ok=True)
        delete_leftovers(folder)
        outs = [folder / f"{number:06d}" for number in range(len(self.plan.parts))]
        tasks = [
            Task(
                out=out,
                call=TokenizePart(
                    part=part,
                    tokenizer_file=tokenizer_file.resolve(),
                    out=out,
                    validation_share=self.plan.validation_share,
                    speed=speed,
                    threads=self.threads,
                ),
                size=part.size_bytes + 1,
            )
            for (_, part), out in zip(self.plan.parts, outs, strict=True)
        ]
        set_aside = {
            one.task.out: one
            for one in engine.run(tasks, stage=f"tokenized-{speed}", may_quarantine=self.may_quarantine)
        }
        done = [
            PartTokens(folder=out, origin=origin, summary=json.loads((out / SUMMARY).read_text("utf-8")))
            for (origin, _), out in zip(self.plan.parts, outs, strict=True)
            if out not in set_aside
        ]
        names = {out: part.name for (_, part), out in zip(self.plan.parts, outs, strict=True)}
        if set_aside and not done:
            out, one = set_aside.popitem()
            raise DataError(f"no part of the input could be tokenized; {names[out]}: {one.reason}")
        return done, tuple(f"left out: {names[out]}: {one.reason}" for out, one in set_aside.items())

    def assemble(
        self, parts: list[PartTokens], out: Path, begin: float
    ) -> tuple[dict[str, EncodeReport], tuple[str, ...]]:
        """Write the result, all at once."""
        held_out, kept = (sum(part.count(split, "documents") for part in parts) for split in reversed(SPLITS))
        splits: dict[str, tuple[str, ...]] = {"train": ("train",), "validation": ("validation",)}
        notes: tuple[str, ...] = ()
        if not held_out or not kept:
            splits = {"train": SPLITS}  # one of the two is empty
        if self.plan.validation_share and len(splits) == 1:
            total = held_out + kept
            notes = (
                f"no validation: {total} documents are too few to hold out {self.plan.validation_share:.1%}; "
                "a larger --validation-share holds some out",
            )
        reports = {}
        check_room(out, sum(part.summary["tokens"] for part in parts) * dtype_of(self.tokenizer.vocab_size).itemsize)
        with folder_written_atomically(out) as folder:
            for name, sources in splits.items():
                writer = write_split(
                    parts, sources, folder / name, self.tokenizer, max_shard_tokens=self.plan.max_shard_tokens
                )
                reports[name] = EncodeReport(
                    folder=str(out / name),
                    num_documents=writer.num_documents,
                    num_tokens=writer.num_tokens,
                    text_bytes=writer.text_bytes,
                    num_empty=0,
                    seconds=time.monotonic() - begin,
                    encoder=parts[0].summary["encoder"],
                )
            self.tokenizer.save(folder)
        return reports, notes


def others_in(name: str, reading: ReadOptions) -> Counter[str]:
    """Files of a folder that were not read, by suffix."""
    return find_files(Path(name), reading.pattern)[1] if Path(name).exists() else Counter()


def check_any_text(inputs: Sequence[str], parts: list[PartTokens], read: ReadReport) -> None:
    """Refuse input without a document.

    Raises:
        DataError: says what was found instead.
    """
    if any(part.summary["documents"] for part in parts):
        return
    num_files = read.num_files + read.num_problems
    if num_files <= 1 and not read.num_problems and not read.left_out:
        raise DataError(f"{inputs[0]} is empty", hint="give a file with some text in it")
    first = read.problems[0] if read.problems else None
    raise DataError(
        f"no text in {', '.join(inputs)}: {read.num_files} files, {read.num_empty} documents without text, "
        f"{read.left_out.total()} records that are no documents, {read.num_problems} that could not be read"
        + (f"; the first: {first}" if first else ""),
        hint=first.hint if first else "give files with some text in them",
    )
