"""C++ sources of this folder as loaded libraries: compiled for this very processor on first use, kept on disk.

The compiler gets no headers of PyTorch: functions have C linkage and take pointers, sizes and strides. Threads come
from the OpenMP library that PyTorch has already loaded, so that both share one pool (the library is linked without one
of its own), and `torch.set_num_threads` counts for kernels too.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch  # noqa: F401  (its OpenMP library has to be there before ours look for its functions)

from mamba_slm.core.compiler import cache_folder
from mamba_slm.core.errors import SetupError
from mamba_slm.core.processor import processor_features

SOURCES = Path(__file__).parent
HEADERS = ("simd.h",)
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC", "-Wall")
COMPILE_SECONDS = 300


def missing_for_native() -> str | None:
    """What this machine lacks for kernels of this folder, or None."""
    if sys.platform != "linux":
        return f"they are written for Linux, and this is {sys.platform}"
    if gcc() is None:
        return "there is no g++ (CXX names another one)"
    return None


def gcc() -> str | None:
    """The path of the GNU C++ compiler: others bring another OpenMP library than PyTorch's."""
    return shutil.which(os.environ.get("CXX", "g++"))


@functools.cache
def library(name: str) -> ctypes.CDLL:
    """`ops/native/{name}.cpp`, compiled if need be. Whoever calls sets `argtypes` of the functions.

    Raises:
        SetupError: no compiler, it fails, or the cache folder cannot be written.
    """
    if missing := missing_for_native():
        raise SetupError(f"no native kernels: {missing}", hint="apt-get install g++")
    path = library_path(name)
    try:
        if not path.is_file():
            compile_library(name, path)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        raise SetupError(
            f"native kernel {name} could not be compiled or loaded ({path.parent}): {reason_of(error)}",
            hint="name a folder that can be written with MAMBA_SLM_CACHE; `mamba-slm doctor` examines the compiler",
        ) from error


def library_path(name: str) -> Path:
    """Where the compiled library is kept, named by a hash of all it depends on. Nothing need be there."""
    texts = [(SOURCES / file).read_text(encoding="utf-8") for file in (f"{name}.cpp", *HEADERS)]
    depends_on = (texts, FLAGS, compiler_version(), processor_features(), platform.libc_ver())
    digest = hashlib.sha256(repr(depends_on).encode()).hexdigest()[:20]
    return cache_folder() / "native" / f"{name}-{digest}.so"


@functools.cache
def compiler_version() -> str:
    """The first line by which the compiler introduces itself."""
    found = gcc()
    if found is None:
        return ""
    return subprocess.run([found, "--version"], capture_output=True, text=True, timeout=60).stdout.partition("\n")[0]


def compile_library(name: str, path: Path) -> None:
    """Compile `name` into `path`, which is complete or absent at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    compiler = gcc()
    assert compiler is not None
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made, library = Path(folder, f"{name}.o"), Path(folder, f"{name}.so")
        for command in (
            [compiler, *FLAGS, "-c", str(SOURCES / f"{name}.cpp"), "-o", str(made)],
            [compiler, "-shared", str(made), "-o", str(library)],
        ):
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=COMPILE_SECONDS)
        os.replace(library, path)


def reason_of(error: Exception) -> str:
    """What a failed compilation says first."""
    said = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
    lines = [line for line in (said or "").splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[0] if lines else type(error).__name__)
