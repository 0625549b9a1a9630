"""What a quantization came to: sizes, speed, quality, each part alone. A record; `page.py` draws it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mamba_slm.core.files import write_json_atomic, write_text_atomic
from mamba_slm.quantization.measure import Quality
from mamba_slm.quantization.sensitivity import PartCost
from mamba_slm.quantization.speed import Speed

REPORT_FILE, PAGE_FILE = "report.json", "report.html"
REPORT_FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Size:
    """Bytes of the weights, beside the same model in bfloat16."""

    file_bytes: int
    """Of the safetensors file that was written."""
    memory_bytes: int
    """Of all weights once loaded."""
    bfloat16_bytes: int
    """Two per parameter; a tied head counts once."""
    bits_per_weight: float
    """Mean over the matrices, scales and zero points included."""

    @property
    def file_ratio(self) -> float:
        """Of the file to bfloat16."""
        return self.file_bytes / self.bfloat16_bytes

    @property
    def memory_ratio(self) -> float:
        """Of the memory to bfloat16."""
        return self.memory_bytes / self.bfloat16_bytes

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "file_ratio": self.file_ratio, "memory_ratio": self.memory_ratio}


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that was measured."""

    model: str
    """The model folder that was quantized."""
    parameters: int
    pattern: str
    to: str
    """What was asked for, in words."""
    method: str
    plan: Mapping[str, Any]
    """`Quantization` as config.json holds it."""
    text: str
    """What the quality was measured on."""
    calibration: str | None
    """What the method looked at; None: at nothing but the weights."""
    size: Size
    quality: Quality
    speed: Speed | None = None
    parts: tuple[PartCost, ...] = ()
    """Each part quantized alone, the worst first."""
    matrices: tuple[PartCost, ...] = ()
    """Single matrices quantized alone, in the order of the model."""
    unquantized: Mapping[str, str] = field(default_factory=dict)
    """Parts that became something else than was asked for: name -> why."""
    max_drop: float | None = None
    """Largest rise of the perplexity that was allowed, as a share."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """What took how long."""
    versions: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def worst(self) -> tuple[PartCost, ...]:
        """The matrices, the one that costs most first."""
        return tuple(sorted(self.matrices, key=lambda each: -each.quality.mean_kl))

    @property
    def is_within(self) -> bool:
        """Whether the perplexity rose by no more than was allowed; True where no limit was set."""
        return self.max_drop is None or self.quality.perplexity_change <= self.max_drop

    def to_dict(self) -> dict[str, Any]:
        """What report.json holds."""
        return {
            "format_version": REPORT_FORMAT_VERSION,
            "model": self.model,
            "parameters": self.parameters,
            "pattern": self.pattern,
            "to": self.to,
            "method": self.method,
            "quantization": dict(self.plan),
            "measured_on": self.text,
            "calibrated_on": self.calibration,
            "size": self.size.to_dict(),
            "quality": self.quality.to_dict(),
            "speed": None if self.speed is None else self.speed.to_dict(),
            "parts": [each.to_dict() for each in self.parts],
            "matrices": [each.to_dict() for each in self.matrices],
            "unquantized": dict(self.unquantized),
            "max_drop": self.max_drop,
            "seconds": dict(self.seconds),
            "versions": dict(self.versions),
            "remarks": list(self.remarks),
        }


def write_report(report: Report, folder: Path) -> None:
    """`report.json` and `report.html` into an existing folder."""
    from mamba_slm.quantization.page import render_page

    write_json_atomic(folder / REPORT_FILE, report.to_dict())
    write_text_atomic(folder / PAGE_FILE, render_page(report))
