"""C++ sources as loaded libraries: compiled for this very processor on first use, kept on disk.

A source gets no headers of Python or PyTorch: functions have C linkage and take pointers and sizes. OpenMP pragmas are
compiled, but the library is linked without an OpenMP of its own: it takes the one that the process has already loaded,
which is PyTorch's where torch was imported first. So both share one pool of threads.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from mamba_slm.core.compiler import cache_folder
from mamba_slm.core.errors import SetupError
from mamba_slm.core.processor import processor_features

FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC", "-Wall")
COMPILE_SECONDS = 300


def missing_for_native() -> str | None:
    """What this machine lacks for compiled C++, or None."""
    if sys.platform != "linux":
        return f"they are written for Linux, and this is {sys.platform}"
    if gcc() is None:
        return "there is no g++ (CXX names another one)"
    return None


def gcc() -> str | None:
    """The path of the GNU C++ compiler: others bring another OpenMP library than PyTorch's."""
    return shutil.which(os.environ.get("CXX", "g++"))


@functools.cache
def load_library(source: Path) -> ctypes.CDLL:
    """The library of a C++ source, compiled if need be. Whoever calls sets `argtypes` of the functions.

    Raises:
        SetupError: no compiler, it fails, or the cache folder cannot be written.
    """
    if missing := missing_for_native():
        raise SetupError(f"no native kernels: {missing}", hint="apt-get install g++")
    path = library_path(source)
    try:
        if not path.is_file():
            compile_library(source, path)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        raise SetupError(
            f"native kernel {source.stem} could not be compiled or loaded ({path.parent}): {reason_of(error)}",
            hint="name a folder that can be written with MAMBA_SLM_CACHE; `mamba-slm doctor` examines the compiler",
        ) from error


def library_path(source: Path) -> Path:
    """Where the compiled library is kept, named by a hash of all it depends on. Nothing need be there."""
    texts = [file.read_text(encoding="utf-8") for file in with_headers(source)]
    depends_on = (texts, FLAGS, compiler_version(), processor_features(), platform.libc_ver())
    digest = hashlib.sha256(repr(depends_on).encode()).hexdigest()[:20]
    return cache_folder() / "native" / f"{source.stem}-{digest}.so"


def with_headers(source: Path) -> list[Path]:
    """The source, all headers beside it, and those in other folders that these files include in quotation marks."""
    found = [source, *sorted(source.parent.glob("*.h"))]
    for file in found:
        for name in re.findall(r'^#include "([^"]+)"', file.read_text(encoding="utf-8"), re.MULTILINE):
            path = (file.parent / name).resolve()
            if path.is_file() and path not in [known.resolve() for known in found]:
                found.append(path)
    return found


def compiler_version() -> str:
    """The first line by which the compiler introduces itself."""
    found = gcc()
    return "" if found is None else version_of(found)


@functools.cache
def version_of(compiler: str) -> str:
    """As `compiler_version`."""
    return subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=60).stdout.partition("\n")[0]


def compile_library(source: Path, path: Path) -> None:
    """Compile `source` into `path`, which is complete or absent at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    compiler = gcc()
    assert compiler is not None
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made, library = Path(folder, f"{source.stem}.o"), Path(folder, f"{source.stem}.so")
        for command in (
            [compiler, *FLAGS, "-c", str(source), "-o", str(made)],
            [compiler, "-shared", str(made), "-o", str(library)],
        ):
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=COMPILE_SECONDS)
        os.replace(library, path)


def reason_of(error: Exception) -> str:
    """What a failed compilation says first."""
    said = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
    lines = [line for line in (said or "").splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[0] if lines else type(error).__name__)


def declare(library: ctypes.CDLL, name: str, *argtypes: type, result: type | None = None) -> None:
    """Say which arguments a function takes and what it returns."""
    function = getattr(library, name)
    function.argtypes, function.restype = list(argtypes), result
