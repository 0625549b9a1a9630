"""What `--compile` needs, whether it works, and whether it pays."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mamba_slm.cli.examination.check import Check, times
from mamba_slm.cli.examination.installing import system_command
from mamba_slm.cli.examination.steps import StepsRequest, time_steps_elsewhere
from mamba_slm.core.compiler import cxx_compiler, has_python_headers

PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
COMPILE_TIMEOUT_SECONDS = 300
TRIAL_SOURCE = """\
#include <Python.h>
#include <omp.h>
#include <cmath>
int threads() { return omp_get_max_threads() + (int)std::sqrt((double)PY_MAJOR_VERSION); }
"""
MEASURED_ONLY_THOROUGHLY = "--measure thorough times it"


@dataclass(frozen=True, kw_only=True)
class CompileGain:
    """A training step compiled, beside the same step as it is."""

    compile_seconds: float
    """Of the first step, less one compiled step; nothing was in the compiler's cache."""

    eager_seconds: float
    compiled_seconds: float

    @property
    def times_as_fast(self) -> float:
        """Above 1 where compiling makes steps faster."""
        return self.eager_seconds / self.compiled_seconds


def compiler_check(*, trial: bool, gain: CompileGain | str | None = None) -> Check:
    """A C++ compiler and the headers of this Python.

    Args:
        trial: compile a few lines with OpenMP, as torch.compile does; a third of a second.
        gain: what compiling a training step brought, why that is not known, or None where it was not tried.
    """
    compiler, headers = cxx_compiler(), has_python_headers()
    if not compiler or not headers:
        wrong = [text for text, there in (("no C++ compiler", compiler), ("no Python headers", headers)) if not there]
        return Check(
            section="compilers", name="c++", status="note", text=" and ".join(wrong),
            cost="--compile is not available, nothing else needs it; not measured: needs a compiler",
            hint=install_command(compiler=not compiler, headers=not headers),
        )  # fmt: skip
    failure = trial_failure(compiler) if trial else None
    if failure:
        return Check(
            section="compilers", name="c++", status="note",
            text=f"{compiler} fails on a program of four lines: {failure}",
            cost="--compile does not work, nothing else needs it; not measured: needs a compiler that works",
            hint=install_command(compiler=True, headers=True),
        )  # fmt: skip
    works = "works, with" if trial else "and"
    text = f"{compiler} {works} Python's headers{' and OpenMP' if trial else ''}"
    if gain is None:
        return Check(section="compilers", name="c++", text=f"{text}: --compile is there; {MEASURED_ONLY_THOROUGHLY}")
    if isinstance(gain, str):
        return Check(
            section="compilers", name="c++", status="note", text=f"{text}, but torch.compile fails: {gain}",
            cost="--compile does not work, nothing else needs it; not measured: it failed",
            hint="mamba-slm train --no-compile",
        )  # fmt: skip
    return Check(
        section="compilers", name="c++", text=f"{text}; {gain_phrase(gain)}",
        measured={
            "compile_seconds": gain.compile_seconds,
            "eager_step_seconds": gain.eager_seconds,
            "compiled_step_seconds": gain.compiled_seconds,
            "compiled_times_as_fast": gain.times_as_fast,
        },
    )  # fmt: skip


def gain_phrase(gain: CompileGain) -> str:
    """Whether compiling pays, and after how many steps.

    >>> gain_phrase(CompileGain(compile_seconds=40, eager_seconds=0.2, compiled_seconds=0.1))
    '--compile makes a step 2.0x as fast after 40 s of compiling: it pays after 400 steps'
    """
    saved = gain.eager_seconds - gain.compiled_seconds
    if gain.times_as_fast < 1.05:
        return (
            f"--compile does not pay: {gain.times_as_fast:.2f}x as fast after {gain.compile_seconds:.0f} s of compiling"
        )
    return (
        f"--compile makes a step {times(gain.times_as_fast)} as fast after {gain.compile_seconds:.0f} s of compiling: "
        f"it pays after {gain.compile_seconds / saved:,.0f} steps"
    )


def trial_failure(compiler: str) -> str | None:
    """Compile a few lines; None where that works, else the first line that says error."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "trial.cpp")
        source.write_text(TRIAL_SOURCE)
        command = [compiler, "-shared", "-fPIC", "-fopenmp", f"-I{sysconfig.get_path('include')}", str(source)]
        try:
            done = subprocess.run(
                [*command, "-o", str(source.with_suffix(".so"))],
                capture_output=True, text=True, timeout=30, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"]
    return next((line for line in lines if "error" in line), lines[0])


def measure_compile(*, precision: str, threads: int) -> CompileGain | str:
    """Time a training step compiled and as it is, each in a process of its own; a text says why that failed."""
    eager = time_steps_elsewhere(
        StepsRequest(precision=precision, threads=threads), environment={}, timeout_seconds=60
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as empty_cache:
        compiled = time_steps_elsewhere(
            StepsRequest(precision=precision, threads=threads, compile=True),
            environment={"TORCHINDUCTOR_CACHE_DIR": empty_cache},
            timeout_seconds=COMPILE_TIMEOUT_SECONDS,
        )
    if isinstance(eager, str) or isinstance(compiled, str):
        return eager if isinstance(eager, str) else str(compiled)
    fastest = min(compiled.seconds)
    return CompileGain(
        compile_seconds=compiled.first_seconds - fastest, eager_seconds=min(eager.seconds), compiled_seconds=fastest
    )


def install_command(*, compiler: bool, headers: bool) -> str:
    """The command that installs what is absent."""
    python = f"python{PYTHON_VERSION}"
    packages = {
        "apt-get": " ".join(["g++"] * compiler + [f"{python}-dev"] * headers),
        "dnf": " ".join(["gcc-c++"] * compiler + [f"{python}-devel"] * headers),
        "zypper": " ".join(["gcc-c++"] * compiler + [f"{python.replace('.', '')}-devel"] * headers),
        "pacman": " ".join(["gcc"] * compiler + ["python"] * headers),
        "macOS": "xcode-select --install",
    }
    return system_command(packages, otherwise=f"install g++ and the headers of Python {PYTHON_VERSION}")


def nvcc_check(*, has_nvidia_gpu: bool) -> Check | None:
    """NVIDIA's compiler, where there is an NVIDIA GPU."""
    if not has_nvidia_gpu:
        return None
    if found := shutil.which("nvcc"):
        return Check(section="compilers", name="nvcc", text=f"{found}; nothing in this version needs it")
    return Check(
        section="compilers", name="nvcc", text="absent",
        cost="nothing here: only packages that are built from source need it, and this version uses none",
    )  # fmt: skip
