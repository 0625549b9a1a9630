"""Which C++ compiler there is for what PyTorch compiles at run time, and where its results are kept."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path


def cxx_compiler() -> str | None:
    """The C++ compiler that torch.compile would call."""
    for name in (os.environ.get("CXX", "g++"), "clang++"):
        if found := shutil.which(name):
            return found
    return None


def has_python_headers() -> bool:
    """Whether C++ code can include Python.h."""
    return Path(sysconfig.get_path("include"), "Python.h").is_file()


def cache_folder() -> Path:
    """Where files go that can always be made again: MAMBA_SLM_CACHE, else mamba-slm in the user's cache folder."""
    if chosen := os.environ.get("MAMBA_SLM_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mamba-slm"
