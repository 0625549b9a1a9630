"""The machine: processor, the instructions that matter to PyTorch, memory, disk, GPUs."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from mamba_slm.cli.examination.check import Check
from mamba_slm.cli.examination.installing import Installation
from mamba_slm.cli.examination.packages import first_line
from mamba_slm.core.units import format_bytes
from mamba_slm.runs.machine import gpu_names, processor_name, usable_cores, usable_memory_bytes
from mamba_slm.runs.process import output_of, read_text

MIN_MEMORY_BYTES = 1 << 30  # torch alone takes about a quarter of it
COMFORTABLE_MEMORY_BYTES = 4 << 30
MIN_DISK_BYTES = 200 << 20  # the quick start writes about 100 MiB
COMFORTABLE_DISK_BYTES = 2 << 30

INSTRUCTIONS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX512-VNNI",
    "avx512_bf16": "AVX512-BF16",
    "amx_bf16": "AMX-BF16",
    "sve": "SVE",
    "i8mm": "I8MM",
    "bf16": "BF16 (Arm)",
}
"""Flag in /proc/cpuinfo -> the instructions as vendors call them, of those that PyTorch's CPU kernels use."""
BF16_FLAGS = {"avx512_bf16", "amx_bf16"}  # as `training.precision` asks for
ARM_BF16_FLAG = "bf16"


def machine_checks(install: Installation) -> list[Check]:
    """Everything about the hardware."""
    from mamba_slm.runs.layout import default_home

    checks = [processor_check(), instructions_check(cpu_flags())]
    total, free = usable_memory_bytes(), available_memory_bytes()
    amount = free if free is not None else total
    if amount is not None:
        text = format_bytes(total or amount) + (f", {format_bytes(free)} free" if free is not None else "")
        hint = "close other programs, or train a smaller model"
        checks.append(amount_check("memory", amount, MIN_MEMORY_BYTES, COMFORTABLE_MEMORY_BYTES, text, hint))
    home = default_home().absolute()
    disk = shutil.disk_usage(next(folder for folder in (home, *home.parents) if folder.exists())).free
    text = f"{format_bytes(disk)} free where runs are kept"
    hint = "free some space, or export MAMBA_SLM_HOME=/another/disk/runs"
    checks.append(amount_check("disk", disk, MIN_DISK_BYTES, COMFORTABLE_DISK_BYTES, text, hint))
    return [*checks, gpu_check(install)]


def processor_check() -> Check:
    """Model and cores; says when affinity or a container leaves fewer than there are."""
    usable, all_cores = usable_cores(), os.cpu_count() or 1
    text = f"{processor_name()}, {usable} core{'s' if usable > 1 else ''} usable"
    if usable < all_cores:
        text += f" of {all_cores} (limited by affinity or the container)"
    return Check(section="machine", name="processor", text=text)


def cpu_flags() -> frozenset[str]:
    """What the kernel says the processor can do; empty where it does not say (macOS)."""
    text = read_text(Path("/proc/cpuinfo")) or ""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, flags=re.MULTILINE)
    return frozenset(found[1].split()) if found else frozenset()


def instructions_check(flags: Iterable[str]) -> Check:
    """The instructions that matter, and what they mean for bfloat16."""
    flags = set(flags)
    names = [name for flag, name in INSTRUCTIONS.items() if flag in flags]
    if not names:
        return Check(section="machine", name="instructions", text="not known: this system does not list them")
    listed = ", ".join(names)
    if flags & BF16_FLAGS:
        meaning = "multiplies bf16 in hardware, and --precision auto is bf16"
    elif ARM_BF16_FLAG in flags:
        meaning = "has bf16 instructions, but --precision auto is fp32: on this processor torch does not report them"
    else:
        meaning = "none for bf16, which torch emulates: --precision auto is fp32"
    return Check(section="machine", name="instructions", text=f"{listed}: {meaning}")


def amount_check(name: str, amount: int, needed: int, comfortable: int, text: str, hint: str) -> Check:
    """Missing below what is needed, a note below what is comfortable."""
    if amount >= comfortable:
        return Check(section="machine", name=name, text=text)
    if amount < needed:
        cost = f"the quick start does not fit: it needs {format_bytes(needed)}"
        return Check(section="machine", name=name, status="missing", text=text, cost=cost, hint=hint)
    cost = f"larger models may not fit: {format_bytes(comfortable)} is comfortable"
    return Check(section="machine", name=name, status="note", text=text, cost=cost, hint=hint)


def available_memory_bytes() -> int | None:
    """Memory that a new program can have without swapping, as the Linux kernel estimates it; None elsewhere."""
    found = re.search(r"^MemAvailable:\s*(\d+) kB", read_text(Path("/proc/meminfo")) or "", flags=re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def gpu_check(install: Installation) -> Check:
    """The GPUs that the driver lists, and whether this torch can use them."""
    gpus = list(driver_gpus())
    if not gpus:
        return Check(section="machine", name="gpu", text="none: everything runs on the CPU")
    text = "; ".join(gpus)
    if torch_has_cuda():
        failure = gpu_failure()
        if failure is None:
            return Check(section="machine", name="gpu", text=text)
        return Check(
            section="machine", name="gpu", status="missing", text=f"{text}, but torch cannot compute on it: {failure}",
            cost="training fails unless it is told --device cpu",
            hint=install.packages(["torch>=2.11"], again=True),
        )  # fmt: skip
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):
        reason, hint = "CUDA_VISIBLE_DEVICES hides it", "unset CUDA_VISIBLE_DEVICES"
    else:
        reason = "this torch is built without CUDA, or for another driver"
        hint = install.packages(["torch>=2.11"], again=True)
    return Check(
        section="machine", name="gpu", status="note", text=f"{text}, but {reason}",
        cost="the GPU is idle; not measured: torch cannot reach it", hint=hint, about_speed=True,
    )  # fmt: skip


def driver_gpus() -> Iterator[str]:
    """What nvidia-smi says about each GPU, with the peak of the table; names alone when there is no nvidia-smi."""
    from mamba_slm.core.hardware import gpu_by_device_name

    listing = output_of("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits")
    if not listing:
        yield from gpu_names()
        return
    for line in listing.splitlines():
        name, mebibytes, driver = (part.strip() for part in line.split(","))
        row = gpu_by_device_name(name)
        memory = format_bytes(int(mebibytes) * 2**20) if mebibytes.isdigit() else "unknown memory"
        peak = f", {row.half_flops_per_second / 1e12:.0f} TFLOP/s bf16 ({row.source})" if row and row.has_bf16 else ""
        yield f"{name}, {memory}, driver {driver}{peak}"


def torch_has_cuda() -> bool:
    """Whether torch is there and sees a CUDA (or ROCm) device."""
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


@functools.lru_cache(maxsize=1)
def gpu_failure() -> str | None:
    """Why torch cannot compute on the GPU that it sees, such as kernels built for other GPUs; None where it can."""
    import torch

    try:
        torch.ones(2, device="cuda").sum().item()
    except (RuntimeError, AssertionError) as error:
        return first_line(error)
    return None


def working_device() -> str:
    """The device that training would choose, or the CPU where that one fails."""
    return "cuda" if torch_has_cuda() and gpu_failure() is None else "cpu"
