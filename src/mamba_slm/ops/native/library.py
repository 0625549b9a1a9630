"""The C++ sources of this folder as libraries that run on PyTorch's threads (`core/native.py` compiles them)."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch  # noqa: F401  (its OpenMP library has to be there before ours look for its functions)

from mamba_slm.core.native import library_path as path_of_library
from mamba_slm.core.native import load_library
from mamba_slm.core.native import missing_for_native as missing_for_native

SOURCES = Path(__file__).parent


def library(name: str) -> ctypes.CDLL:
    """`ops/native/{name}.cpp`, compiled if need be; see `load_library`."""
    return load_library(SOURCES / f"{name}.cpp")


def library_path(name: str) -> Path:
    """Where the library of `ops/native/{name}.cpp` is kept."""
    return path_of_library(SOURCES / f"{name}.cpp")
