"""`mamba-slm doctor`: what this machine has, what is missing, and the command that mends it."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from mamba_slm.cli import console
from mamba_slm.core.units import format_bytes

OPTIONAL = {
    "data": ("zstandard", "reads and writes .zst files"),
    "track": ("tensorboard", "writes TensorBoard logs"),
}
"""Extra of pyproject.toml -> (module it installs, what it is for)."""

MIN_MEMORY_BYTES = 1 << 30  # torch alone takes about a quarter of it
COMFORTABLE_MEMORY_BYTES = 4 << 30
MIN_DISK_BYTES = 200 << 20  # the quick start writes about 100 MiB
COMFORTABLE_DISK_BYTES = 2 << 30
MARKS = {"ok": ("✓", "green"), "note": ("⚠", "yellow"), "missing": ("✗", "red")}

EPILOG = """\
Exit code 3 when something that is needed is missing; a warning (⚠) never fails.

examples:
  mamba-slm doctor
  mamba-slm doctor --no-measure
  mamba-slm doctor --json
"""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the examination."""

    name: str
    status: Literal["ok", "note", "missing"]
    """`note` can be lived with; `missing` stops the program from working."""

    text: str
    hint: str = ""
    """The command that mends it."""

    def __str__(self) -> str:
        line = f"{MARKS[self.status][0]} {self.name:<9} {self.text}"
        return f"{line}\n            mend it: {self.hint}" if self.hint else line


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm doctor`."""
    parser.epilog = EPILOG
    parser.add_argument("--json", action="store_true", help="one JSON document: ok, checks")
    parser.add_argument("--no-measure", action="store_true", help="do not time matrix products (saves a second)")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    checks = examine(measure=not args.no_measure)
    complete = all(check.status != "missing" for check in checks)
    if args.json:
        console.print_json({"ok": complete, "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            mark, colour = MARKS[check.status]
            print(str(check).replace(mark, console.coloured(mark, colour, stream=sys.stdout), 1))
    return 0 if complete else 3


def examine(*, measure: bool = True) -> list[Check]:
    """Every check in order; `measure` also times matrix products, which takes about a second."""
    checks = [python_check(), packages_check(), torch_check(), *machine_checks(), compiler_check(), *optional_checks()]
    if measure and next(check for check in checks if check.name == "torch").status != "missing":
        checks.append(speed_check())
    return checks


def python_check() -> Check:
    """The interpreter against the floor of the package."""
    version, text = sys.version_info, f"{platform.python_version()} ({platform.system()} {platform.machine()})"
    if version < (3, 11):
        return Check(
            name="python", status="missing", text=f"{text}: 3.11 is needed", hint="install Python 3.11 or newer"
        )
    if platform.system() == "Windows":
        return Check(name="python", status="note", text=f"{text}: Windows is not supported", hint="wsl --install")
    return Check(name="python", status="ok", text=text)


def packages_check() -> Check:
    """The required packages against the floors in the metadata of the installed package."""
    wrong, found = [], []
    for name, floor in required_packages():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{name} is absent")
            continue
        found.append(f"{name} {version}")
        if version_numbers(version) < version_numbers(floor):
            wrong.append(f"{name} {version} is older than {floor}")
    if wrong:
        return Check(name="packages", status="missing", text=", ".join(wrong), hint="pip install --upgrade mamba-slm")
    return Check(name="packages", status="ok", text=", ".join(text for text in found if not text.startswith("torch ")))


def required_packages() -> Iterator[tuple[str, str]]:
    """Name and lowest version of everything a plain installation has."""
    for line in importlib.metadata.requires("mamba-slm") or ():
        match = re.match(r"([A-Za-z0-9._-]+)\s*>=\s*([\d.]+)\s*$", line)
        if match:
            yield match[1], match[2]


def version_numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version, for comparison.

    >>> version_numbers("2.13.0+cpu") >= version_numbers("2.11")
    True
    """
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0]))


def torch_check() -> Check:
    """PyTorch: version, threads, the instructions its CPU kernels use, CUDA."""
    from mamba_slm.runs.machine import usable_cores

    try:
        import torch
    except ImportError as error:
        return Check(
            name="torch", status="missing", text=f"cannot be imported: {error}", hint="pip install 'torch>=2.11'"
        )
    threads, cores = torch.get_num_threads(), usable_cores()
    text = f"{torch.__version__}, {threads} of {cores} threads, {torch.backends.cpu.get_cpu_capability()}"
    if torch.cuda.is_available():
        text += f", CUDA {torch.version.cuda}"
    if threads < cores and not torch.cuda.is_available():
        return Check(name="torch", status="note", text=text, hint=f"export OMP_NUM_THREADS={cores}")
    return Check(name="torch", status="ok", text=text)


def machine_checks() -> list[Check]:
    """Processor, memory, disk and GPUs."""
    from mamba_slm.runs.layout import default_home
    from mamba_slm.runs.machine import processor_name, usable_cores, usable_memory_bytes

    cores = usable_cores()
    checks = [
        Check(name="processor", status="ok", text=f"{processor_name()}, {cores} core{'s' if cores > 1 else ''} usable")
    ]
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
    return [*checks, gpu_check()]


def amount_check(name: str, amount: int, needed: int, comfortable: int, text: str, hint: str) -> Check:
    """Missing below what is needed, a note below what is comfortable."""
    if amount >= comfortable:
        return Check(name=name, status="ok", text=text)
    return Check(name=name, status="missing" if amount < needed else "note", text=text, hint=hint)


def available_memory_bytes() -> int | None:
    """Memory that a new program can have without swapping, as the Linux kernel estimates it; None elsewhere."""
    from mamba_slm.runs.process import read_text

    found = re.search(r"^MemAvailable:\s*(\d+) kB", read_text(Path("/proc/meminfo")) or "", flags=re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def gpu_check() -> Check:
    """The GPUs that the driver lists, and whether this torch can use them."""
    gpus = list(driver_gpus())
    if not gpus:
        return Check(name="gpu", status="ok", text="none: everything runs on the CPU")
    text = "; ".join(gpus)
    if not torch_has_cuda():
        return Check(
            name="gpu", status="note", text=f"{text}, but this torch is built without CUDA",
            hint="pip install --force-reinstall 'torch>=2.11' from an index with CUDA builds",
        )  # fmt: skip
    return Check(name="gpu", status="ok", text=text)


def driver_gpus() -> Iterator[str]:
    """What nvidia-smi says about each GPU, with the peak of the table; names alone when there is no nvidia-smi."""
    from mamba_slm.core.hardware import gpu_by_device_name
    from mamba_slm.runs.machine import gpu_names
    from mamba_slm.runs.process import output_of

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


def compiler_check() -> Check:
    """What `--compile` needs on a CPU: a C++ compiler and the headers of this Python."""
    compiler = next(
        (found for name in (os.environ.get("CXX"), "g++", "clang++") if name and (found := shutil.which(name))), None
    )
    headers = Path(sysconfig.get_paths()["include"], "Python.h").is_file()
    if compiler and headers:
        return Check(name="compiler", status="ok", text=f"{compiler} and the Python headers (for --compile)")
    absent = " and ".join(
        what for what, there in (("no C++ compiler", compiler), ("no Python headers", headers)) if not there
    )
    hint = "xcode-select --install" if platform.system() == "Darwin" else "sudo apt install g++ python3-dev"
    return Check(
        name="compiler", status="note", text=f"{absent}: --compile is not available, nothing else needs it", hint=hint
    )


def optional_checks() -> Iterator[Check]:
    """The extras, present or absent."""
    for extra, (module, purpose) in OPTIONAL.items():
        if importlib.util.find_spec(module) is not None:
            yield Check(name=extra, status="ok", text=f"{module} {purpose}")
        else:
            yield Check(
                name=extra,
                status="note",
                text=f"{module} is absent; it {purpose}",
                hint=f"pip install 'mamba-slm[{extra}]'",
            )


def speed_check() -> Check:
    """How fast this CPU multiplies matrices in torch, measured now."""
    from mamba_slm.training.peak import measured_gemm_rate

    rates = {precision: measured_gemm_rate(precision=precision, seconds=0.3) for precision in ("fp32", "bf16")}
    text = ", ".join(f"{rate / 1e9:,.0f} GFLOP/s {precision}" for precision, rate in rates.items())
    return Check(name="speed", status="ok", text=f"{text} (matrix products on the CPU, measured now)")
