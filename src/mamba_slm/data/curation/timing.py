"""How long a curation takes: estimated from a sample before, measured after, side by side."""

from __future__ import annotations

import bisect
import itertools
import re
import time
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from mamba_slm.core.units import format_bytes, format_count, format_seconds
from mamba_slm.data.curation.blocks import zstandard
from mamba_slm.data.curation.chain import Chain
from mamba_slm.data.curation.funnel import BYTES_PER_TOKEN
from mamba_slm.data.curation.plan import CuratePlan, PlannedPart
from mamba_slm.data.curation.records import to_json
from mamba_slm.data.document import Document
from mamba_slm.data.reading.parts import FilesPart
from mamba_slm.data.reading.report import ReadReport

SAMPLED_FILES = 8
SAMPLE_CHARACTERS = 1 << 18
"""Of each file."""

COMPRESSED = re.compile(r"\.(zst|bz2|xz|parquet)\b", re.IGNORECASE)
WARM_UP = Document(text="This is the first text, and the one that is never counted. " * 5, id="")
START_SECONDS = 2.0
LATER_BYTES_PER_SECOND = 45e6
"""Of text that the chain has left, of one core: duplicates and writing. Measured; see docs/log.md."""

WORK_SHARE, RESULT_SHARE = 0.55, 0.40
"""Compressed text of intermediate files, and of the result, beside its size; English."""

WORK_BYTES_PER_DOCUMENT = 600
"""Of hashes, scores and runs of band keys."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a curation will take."""

    text_bytes: float
    """Of UTF-8."""

    documents: float
    seconds: float
    """With all workers."""

    work_bytes: float
    """On disk until the end."""

    result_bytes: float
    chain_bytes_per_second: float
    """Of one core."""

    sampled_documents: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    def __str__(self) -> str:
        rate = self.chain_bytes_per_second / BYTES_PER_TOKEN
        return (
            f"estimate: {format_count(round(self.documents))} documents, {format_bytes(self.text_bytes)} of text, "
            f"about {format_count(self.text_bytes / BYTES_PER_TOKEN)} tokens; {format_seconds(self.seconds)}; "
            f"{format_bytes(self.work_bytes)} of intermediate files, {format_bytes(self.result_bytes)} of result\n"
            f"  from {self.sampled_documents:,} documents: {format_count(rate)} tokens/s per core before duplicates"
        )


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What was seen of a file."""

    documents: int
    text_bytes: int
    kept_bytes: int
    """Text that the chain has left."""

    seconds: float
    disk_bytes: float
    """What the sample takes on disk, as far as that can be known of a part of a compressed file."""

    @classmethod
    def of(cls, planned: PlannedPart, chain: Chain) -> Sample:
        """Read the beginning of a file and send it through its chain."""
        begin, characters, documents = time.perf_counter(), 0, []
        for document in planned.part.documents(ReadReport()):
            documents.append(document)
            characters += len(document.text)
            if characters >= SAMPLE_CHARACTERS:
                break
        judged = chain.judge(documents)
        seconds = time.perf_counter() - begin
        is_whole = characters < SAMPLE_CHARACTERS
        return cls(
            documents=len(documents),
            text_bytes=sum(one.num_bytes for one in documents),
            kept_bytes=sum(len(one.text.encode()) for one in judged if one.removed is None),
            seconds=seconds,
            disk_bytes=planned.part.size_bytes if is_whole else disk_bytes_of(planned.part.name, documents),
        )


def disk_bytes_of(name: str, documents: list[Document]) -> float:
    """About how much documents take in a file of such a name."""
    records = b"".join(to_json({"text": one.text, **one.metadata}) + b"\n" for one in documents)
    if ".gz" in name:
        return len(zlib.compress(records))
    if COMPRESSED.search(name):
        return len(zstandard().ZstdCompressor().compress(records))
    return len(records) if ".json" in name else sum(one.num_bytes for one in documents)


def estimate(plan: CuratePlan, workers: int) -> Estimate:
    """Send the beginnings of some files through the chains.

    Raises:
        DataError: the sample cannot be read.
    """
    chains = {kind: Chain(plan.config, kind, plan.benchmarks) for kind in plan.kinds}
    for chain in chains.values():
        chain.judge([WARM_UP])  # builds tables
    documents = text = kept = 0.0
    samples = []
    for planned, share in sampled_files(plan).items():
        sample = Sample.of(planned, chains[planned.kind])
        scale = share * plan.size_bytes / max(1.0, sample.disk_bytes)
        documents += scale * sample.documents
        text += scale * sample.text_bytes
        kept += scale * sample.kept_bytes
        samples.append(sample)
    rate = sum(one.text_bytes for one in samples) / max(1e-9, sum(one.seconds for one in samples))
    stays = kept * (1 - plan.config.drop_share)
    return Estimate(
        text_bytes=text,
        documents=documents,
        seconds=START_SECONDS + (text / max(1.0, rate) + kept / LATER_BYTES_PER_SECOND) / min(workers, len(plan.parts)),
        work_bytes=WORK_SHARE * kept + RESULT_SHARE * stays + WORK_BYTES_PER_DOCUMENT * documents,
        result_bytes=RESULT_SHARE * stays,
        chain_bytes_per_second=rate,
        sampled_documents=sum(one.documents for one in samples),
    )


def sampled_files(plan: CuratePlan) -> dict[PlannedPart, float]:
    """Those in which evenly spaced bytes of all input lie, each with its share of these places."""
    files = [
        replace(planned, part=replace(planned.part, ranges=(one,)))
        for planned in plan.parts
        if isinstance(planned.part, FilesPart)
        for one in planned.part.ranges
    ] + [planned for planned in plan.parts if not isinstance(planned.part, FilesPart)]
    ends = list(itertools.accumulate(one.part.size_bytes for one in files))
    places = [(2 * number + 1) * ends[-1] // (2 * SAMPLED_FILES) for number in range(SAMPLED_FILES)]
    counts = Counter(min(bisect.bisect_right(ends, place), len(files) - 1) for place in places)
    return {files[number]: count / SAMPLED_FILES for number, count in sorted(counts.items())}


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long a curation took, beside what was estimated."""

    planned: Estimate
    workers: int
    seconds: float
    """Of the call that finished it."""

    is_resumed: bool
    """Whether an earlier call had done a part of the work."""

    core_seconds: Mapping[str, float]
    """By stage, all tasks and calls together; of duplicates and writing, the wall time with all workers."""

    text_bytes: int
    work_bytes: int
    result_bytes: int
    documents: int

    @property
    def bytes_per_core_second(self) -> float:
        """Of text, from reading to the result."""
        return self.text_bytes / max(1e-9, sum(self.core_seconds.values()))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; `from_dict` reads it."""
        return {**asdict(self), "tokens_per_core_second": self.bytes_per_core_second / BYTES_PER_TOKEN}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Timing:
        """What `to_dict` wrote."""
        fields = {key: value for key, value in found.items() if key != "tokens_per_core_second"}
        return cls(**{**fields, "planned": Estimate(**found["planned"])})

    def __str__(self) -> str:
        plan = self.planned
        pairs = [
            ("time", format_seconds(plan.seconds), format_seconds(self.seconds), plan.seconds, self.seconds),
            ("text", format_bytes(plan.text_bytes), format_bytes(self.text_bytes), plan.text_bytes, self.text_bytes),
            (
                "intermediate files",
                format_bytes(plan.work_bytes),
                format_bytes(self.work_bytes),
                plan.work_bytes,
                self.work_bytes,
            ),
            (
                "result",
                format_bytes(plan.result_bytes),
                format_bytes(self.result_bytes),
                plan.result_bytes,
                self.result_bytes,
            ),
        ]
        lines = [
            f"{name + ':':<20}{real} ({planned} estimated{difference(of, was)})"
            for name, planned, real, of, was in pairs
            if not (self.is_resumed and name == "time")
        ]
        if self.is_resumed:
            lines[:0] = [f"{'time:':<20}{format_seconds(self.seconds)} of this call, which went on with earlier work"]
        rate = format_count(self.bytes_per_core_second / BYTES_PER_TOKEN)
        total = sum(self.core_seconds.values())
        stages = sorted(self.core_seconds.items(), key=lambda item: -item[1])
        shares = ", ".join(f"{name} {seconds / max(1e-9, total):.0%}" for name, seconds in stages)
        return "\n".join([*lines, f"{'speed:':<20}{rate} tokens/s per core: {shares}"])


def difference(planned: float, real: float) -> str:
    """How far the estimate was off.

    >>> difference(100, 120), difference(100, 101)
    (', +20%', '')
    """
    if planned <= 0 or abs(real / planned - 1) < 0.05:
        return ""
    return f", {real / planned - 1:+.0%}"
