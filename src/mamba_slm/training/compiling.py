"""torch.compile, sublayer by sublayer: small graphs compile in seconds each and repeat across the stack."""

from __future__ import annotations

import importlib.util
import sysconfig

import torch

from mamba_slm.core.compiler import cxx_compiler, has_python_headers
from mamba_slm.core.errors import SetupError
from mamba_slm.model.stack import LanguageModel


def missing_for_compile(device: str) -> str | None:
    """What torch.compile lacks on this machine for this device, or None."""
    if torch.device(device).type == "cuda":
        return None if importlib.util.find_spec("triton") else "Triton (it comes with CUDA builds of torch)"
    if cxx_compiler() is None:
        return "a C++ compiler (looked for CXX, g++ and clang++)"
    return None if has_python_headers() else f"Python's header files ({sysconfig.get_path('include')}/Python.h)"


def compile_sublayers(model: LanguageModel, device: str) -> None:
    """Compile every sublayer of a `LanguageModel` in place; names of parameters do not change.

    Raises:
        SetupError: no compiler; names what is missing.
    """
    missing = missing_for_compile(device)
    if missing:
        raise SetupError(
            f"--compile needs {missing}",
            hint="leave --compile out, or install it: apt-get install g++ python3-dev",
        )
    for sublayer in model.sublayers:
        sublayer.compile()
