"""How long a curation takes: estimated from a sample before, measured after, side by side."""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mamba_slm.core.units import format_bytes, format_count, format_seconds
from mamba_slm.data.curation.blocks import zstandard
from mamba_slm.data.curation.chain import Chain
from mamba_slm.data.curation.funnel import BYTES_PER_TOKEN
from mamba_slm.data.curation.plan import CuratePlan, PlannedPart
from mamba_slm.data.curation.records import to_json
from mamba_slm.data.document import Document
from mamba_slm.data.reading.report import ReadReport

SAMPLE_CHARACTERS = 1 << 20
COMPRESSED = re.compile(r"\.(zst|bz2|xz|parquet)\b", re.IGNORECASE)
WARM_UP = Document(text="This is the first text, and the one that is never counted. " * 5, id="")
START_SECONDS = 2.0
LATER_BYTES_PER_SECOND = 45e6
"""Of text that the chain has left, of one core: duplicates and writing. Measured; see docs/log.md."""

WORK_SHARE, RESULT_SHARE = 0.45, 0.35
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
            f"estimate: {format_count(self.documents)} documents, {format_bytes(self.text_bytes)} of text, about "
            f"{format_count(self.text_bytes / BYTES_PER_TOKEN)} tokens; {format_seconds(self.seconds)}; "
            f"{format_bytes(self.work_bytes)} of intermediate files, {format_bytes(self.result_bytes)} of result\n"
            f"  from {self.sampled_documents:,} documents: {format_count(rate)} tokens/s per core before duplicates"
        )


@dataclass(kw_only=True)
class Sample:
    """What was seen of a few parts."""

    documents: int = 0
    text_bytes: int = 0
    kept_bytes: int = 0
    seconds: float = 0.0
    disk_bytes: float = 0.0
    """What the sample takes on disk, as far as that can be known of a part of a compressed file."""

    def take(self, planned: PlannedPart, plan: CuratePlan) -> None:
        """Read the beginning of a part and send it through its chain."""
        chain, report = Chain(plan.config, planned.kind, plan.benchmarks), ReadReport()
        chain.judge([WARM_UP])  # builds tables
        begin, characters, documents = time.perf_counter(), 0, []
        for document in planned.part.documents(report):
            documents.append(document)
            characters += len(document.text)
            if characters >= SAMPLE_CHARACTERS:
                break
        judged = chain.judge(documents)
        self.seconds += time.perf_counter() - begin
        text_bytes = sum(one.num_bytes for one in documents)
        self.documents += len(documents)
        self.text_bytes += text_bytes
        self.kept_bytes += sum(len(one.text.encode()) for one in judged if one.removed is None)
        if characters < SAMPLE_CHARACTERS:
            self.disk_bytes += planned.part.size_bytes
            return
        records = b"".join(to_json({"text": one.text, **one.metadata}) + b"\n" for one in documents)
        if ".gz" in planned.part.name:
            self.disk_bytes += len(zlib.compress(records))
        elif COMPRESSED.search(planned.part.name):
            self.disk_bytes += len(zstandard().ZstdCompressor().compress(records))
        else:
            self.disk_bytes += len(records) if ".json" in planned.part.name else text_bytes


def estimate(plan: CuratePlan, workers: int) -> Estimate:
    """Send a sample through the chains: a megabyte each from the first, a middle and the last part.

    Raises:
        DataError: the sample cannot be read.
    """
    count = len(plan.parts)
    sample = Sample()
    for number in sorted({0, count // 2, count - 1}):
        sample.take(plan.parts[number], plan)
    scale = plan.size_bytes / max(1.0, sample.disk_bytes)
    text, kept = scale * sample.text_bytes, scale * sample.kept_bytes
    busy = min(workers, count)
    rate = sample.text_bytes / max(1e-9, sample.seconds)
    stays = kept * (1 - plan.config.drop_share)
    return Estimate(
        text_bytes=text,
        documents=scale * sample.documents,
        seconds=START_SECONDS + (text / rate + kept / LATER_BYTES_PER_SECOND) / busy,
        work_bytes=WORK_SHARE * kept + RESULT_SHARE * stays + WORK_BYTES_PER_DOCUMENT * scale * sample.documents,
        result_bytes=RESULT_SHARE * stays,
        chain_bytes_per_second=rate,
        sampled_documents=sample.documents,
    )


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
