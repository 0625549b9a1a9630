"""What a curation reads and does, fixed before its first task: who changes any of it begins another curation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.config import to_dict
from mamba_slm.core.errors import DataError
from mamba_slm.core.optional import require
from mamba_slm.data.curation.config import CurateConfig, CurateInput
from mamba_slm.data.curation.contamination.index import BenchmarkIndex
from mamba_slm.data.curation.verdict import Kind
from mamba_slm.data.reading.options import ReadOptions
from mamba_slm.data.reading.parts import InputPart, plan_parts
from mamba_slm.data.sources.manifest import MANIFEST

FORMAT_VERSION = 1
"""Of the result; another number is another plan."""


@dataclass(frozen=True, kw_only=True)
class PlannedPart:
    """What one task reads."""

    kind: Kind
    part: InputPart


@dataclass(frozen=True, kw_only=True)
class CuratePlan:
    """Everything that the result depends on."""

    inputs: tuple[CurateInput, ...]
    config: CurateConfig
    options: ReadOptions
    parts: tuple[PlannedPart, ...]
    benchmarks: BenchmarkIndex | None = None
    """Whose questions no document may hold."""

    @property
    def size_bytes(self) -> int:
        """Of the input, on disk."""
        return sum(one.part.size_bytes for one in self.parts)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Sorted."""
        return tuple(sorted({one.kind for one in self.inputs}))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "format_version": FORMAT_VERSION,
            "inputs": [asdict(one) for one in self.inputs],
            "settings": to_dict(self.config),
            "reading": to_dict(self.options),
            "benchmarks": self.benchmarks and self.benchmarks.fingerprint,
            "parts": [[one.kind, one.part.name, one.part.size_bytes] for one in self.parts],
        }

    @property
    def fingerprint(self) -> str:
        """A hash of the plan."""
        return fingerprint_of(self.to_dict())


def plan_of(
    inputs: Sequence[CurateInput],
    config: CurateConfig,
    options: ReadOptions,
    benchmarks: Sequence[str | Path] = (),
) -> CuratePlan:
    """Look at the input.

    Args:
        inputs: sorted.
        config: all decisions.
        options: how files are read.
        benchmarks: files and folders of benchmarks, which are read as a whole.

    Raises:
        DataError: no such path, or nothing to read in it.
        MissingDependencyError: what every stage needs is not installed; said before anything is measured or written.
    """
    for module in ("orjson", "zstandard"):
        require(module, extra="data", purpose="curation")
    parts = [
        PlannedPart(kind=one.kind, part=part)
        for one in inputs
        for part in plan_parts([one.path], options, part_bytes=config.part_bytes)
    ]
    if not parts:
        raise DataError("there is nothing to read", hint="check the inputs")
    index = BenchmarkIndex.build(benchmarks, config.contamination) if benchmarks else None
    return CuratePlan(inputs=tuple(inputs), config=config, options=options, parts=tuple(parts), benchmarks=index)


def fingerprint_of(value: Any) -> str:
    """A hash of something JSON-able: 32 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def source_of(one: CurateInput) -> dict[str, Any]:
    """Name, kind and, where a download's manifest says so, licence and origin of an input."""
    source: dict[str, Any] = {"name": one.path, "kind": one.kind}
    path = Path(one.path)
    manifest = (path if path.is_dir() else path.parent) / MANIFEST
    if manifest.is_file():
        try:
            found = json.loads(manifest.read_text(encoding="utf-8"))
        except ValueError:
            return source
        source |= {key: found[key] for key in ("licence", "page", "commit") if key in found}
    return source
