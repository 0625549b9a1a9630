"""GPUs by name: dense peak rates, memory, bandwidth, and an hourly price to plan with. A table, no torch.

Rates are without sparsity, from the vendors' data sheets; a data sheet that prints the sparse rate is halved here.
Prices are planning assumptions in the range of on-demand offers, not quotes: they change monthly and differ threefold
between providers. Every command that uses one says so and takes another with `--price`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mamba_slm.core.errors import UnknownNameError


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One kind of GPU."""

    name: str
    half_flops_per_second: float
    """Dense matrix products in bf16 or fp16 with float32 accumulation."""

    single_flops_per_second: float
    """float32 outside the matrix units."""

    memory_bytes: int
    bandwidth_bytes_per_second: float
    price_per_hour_usd: float
    """Assumed, for one GPU."""

    has_bf16: bool = True
    source: str
    """Where the rates are from."""

    def flops_per_second(self, precision: str) -> float:
        """Peak in `fp32`, `bf16` or `fp16`. A GPU without bf16 units computes bf16 at its float32 rate."""
        if precision == "fp32" or (precision == "bf16" and not self.has_bf16):
            return self.single_flops_per_second
        return self.half_flops_per_second


def gpu(
    name: str, half: float, single: float, memory_gib: float, bandwidth: float, price: float, *, source: str,
    has_bf16: bool = True,
) -> Gpu:  # fmt: skip
    """A row of the table: rates in TFLOP/s, memory in GiB, bandwidth in GB/s, price in dollars per hour."""
    return Gpu(
        name=name,
        half_flops_per_second=half * 1e12,
        single_flops_per_second=single * 1e12,
        memory_bytes=round(memory_gib * 2**30),
        bandwidth_bytes_per_second=bandwidth * 1e9,
        price_per_hour_usd=price,
        has_bf16=has_bf16,
        source=source,
    )


SPOT_PRICE_SHARE = 0.4
"""Interruptible machines, as a share of the price on demand: a planning assumption; offers lie between 0.2 and 0.7."""

STORAGE_USD_PER_GIB_MONTH = 0.10
"""Network disks: a planning assumption in the range of common offers."""

GPUS: dict[str, Gpu] = {
    row.name: row
    for row in (
        gpu("B200 180GB", 2250, 75, 180, 8000, 5.00, source="NVIDIA DGX B200 data sheet, per GPU"),
        gpu("H200 141GB", 989, 67, 141, 4800, 3.20, source="NVIDIA H200 data sheet"),
        gpu("H100 80GB", 989, 67, 80, 3350, 2.60, source="NVIDIA H100 data sheet, SXM"),
        gpu("H100 PCIe 80GB", 756, 51, 80, 2000, 2.20, source="NVIDIA H100 data sheet, PCIe"),
        gpu("A100 80GB", 312, 19.5, 80, 2039, 1.60, source="NVIDIA A100 data sheet, SXM"),
        gpu("A100 40GB", 312, 19.5, 40, 1555, 1.30, source="NVIDIA A100 data sheet, SXM"),
        gpu("L40S 48GB", 362, 91.6, 48, 864, 0.90, source="NVIDIA L40S data sheet"),
        gpu("L4 24GB", 121, 30.3, 24, 300, 0.50, source="NVIDIA L4 data sheet"),
        gpu("A10 24GB", 125, 31.2, 24, 600, 0.60, source="NVIDIA A10 data sheet"),
        gpu("RTX 4090 24GB", 165, 82.6, 24, 1008, 0.40, source="NVIDIA Ada architecture white paper"),
        gpu("RTX 3090 24GB", 71, 35.6, 24, 936, 0.25, source="NVIDIA Ampere GA102 white paper"),
        gpu("V100 32GB", 125, 15.7, 32, 900, 0.60, has_bf16=False, source="NVIDIA V100 data sheet, SXM2"),
        gpu("T4 16GB", 65, 8.1, 16, 320, 0.35, has_bf16=False, source="NVIDIA T4 data sheet"),
        gpu("MI300X 192GB", 1307, 163, 192, 5300, 2.50, source="AMD Instinct MI300X data sheet"),
    )
}


def find_gpu(name: str) -> Gpu:
    """The GPU that a person means: `H100 80GB`, `h100`, `a100-40gb`, `rtx4090`.

    An abbreviation takes the first row of the table that has all of its words.

    Raises:
        UnknownNameError: none fits; names the nearest.
    """
    wanted = words_of(name)
    for row in GPUS.values():
        if wanted and wanted <= words_of(row.name):
            return row
    raise UnknownNameError("GPU", name, GPUS)


def gpu_by_device_name(device_name: str) -> Gpu | None:
    """The row for the name a driver reports, such as `NVIDIA A100-SXM4-80GB`; None when there is none.

    Where several rows fit, the one that shares the most words wins. Laptop GPUs share a name with desktop ones of about
    twice their rate, and are not in the table.
    """
    reported = words_of(device_name)
    if "laptop" in reported:
        return None
    fitting = [row for row in GPUS.values() if words_of(row.name) - memory_words(row.name) <= reported]
    return max(fitting, key=lambda row: len(words_of(row.name) & reported), default=None)


def words_of(name: str) -> set[str]:
    """Lower-case pieces of letters and digits; `RTX4090` is `rtx 4090`, `80 GB` is `80gb`.

    >>> sorted(words_of("NVIDIA A100-SXM4-80GB")), sorted(words_of("rtx4090"))
    (['80gb', 'a100', 'nvidia', 'sxm4'], ['4090', 'rtx'])
    """
    text = re.sub(r"(\d+)\s*gi?b\b", r"\1gb", name.lower())
    return set(re.findall(r"[a-z0-9]+", re.sub(r"\b(rtx|gtx)(\d)", r"\1 \2", text)))


def memory_words(name: str) -> set[str]:
    """The words of a name that say its memory."""
    return {word for word in words_of(name) if word.endswith("gb")}
