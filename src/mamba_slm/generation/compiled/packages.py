"""Compiled regions on disk: made once per machine and model size by PyTorch's AOTInductor, then loaded in milliseconds.

A package is machine code for one region with one set of shapes, dtypes and threads. It holds no weights, so all models
of one size share it. Its name is a hash of everything it depends on, so that nothing old is ever loaded by mistake.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from mamba_slm.core.compiler import cache_folder, cxx_compiler
from mamba_slm.core.errors import SetupError
from mamba_slm.core.processor import processor_features
from mamba_slm.generation.compiled import regions
from mamba_slm.generation.compiled.regions import Region
from mamba_slm.ops import conv, norm, rope

Compiled = Callable[..., Tensor | tuple[Tensor, ...]]
"""As `Region.forward`."""


def package_path(region: Region, tensors: Sequence[Tensor]) -> Path:
    """Where the package of a region with arguments like these is kept. Nothing need be there."""
    shapes = [(tuple(tensor.shape), tensor.stride(), str(tensor.dtype)) for tensor in tensors]
    sources = [inspect.getsource(module) for module in (regions, conv, norm, rope)]
    machine = (torch.__version__, torch.get_num_threads(), processor_features())
    depends_on = (region.letters, relevant(region), shapes, sources, machine)
    digest = hashlib.sha256(repr(depends_on).encode()).hexdigest()[:20]
    return cache_folder() / "compiled" / f"{region.letters.replace('-', 'f')}-{digest}.pt2"


def relevant(region: Region) -> tuple[object, ...]:
    """Settings of the model that the formulas read and the shapes of their arguments do not tell."""
    c = region.config
    return (c.norm_eps, c.num_groups, c.ssm_head_dim, c.state_size, c.head_dim, c.position)


def open_package(region: Region, tensors: Sequence[Tensor], *, on_compile: Callable[[str], None]) -> Compiled:
    """Load the package of a region, after compiling it where it is not there yet.

    Args:
        tensors: arguments of `region` as they will be: first h, then the rest.
        on_compile: told the region's letters before a compilation, which takes several seconds.

    Raises:
        SetupError: it has to be compiled, and there is no C++ compiler, or it fails; the file is damaged.
    """
    path = package_path(region, tensors)
    if not path.is_file():
        if cxx_compiler() is None:
            raise SetupError(
                "the compiled runtime needs a C++ compiler (looked for g++ and clang++)",
                hint="apt-get install g++, or leave --runtime compiled out",
            )
        on_compile(region.letters)
        try:
            compile_package(region, tensors, path)
        except (OSError, RuntimeError) as error:  # RuntimeError: the compiler's own failures
            raise SetupError(
                f"the decoding step could not be compiled into {path.parent}: {first_line(error)}",
                hint="name a folder that can be written with MAMBA_SLM_CACHE, or see `mamba-slm doctor` for the "
                "compiler, or leave --runtime compiled out",
            ) from error
    try:
        with pytorch_does_not_warn_of_itself():
            from torch._inductor import aoti_load_package

            return aoti_load_package(str(path))
    except RuntimeError as error:
        raise SetupError(
            f"{path} cannot be loaded: {first_line(error)}", hint=f"it can be made again: rm {path}"
        ) from error


def first_line(error: Exception) -> str:
    """What an error says first."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def pytorch_does_not_warn_of_itself() -> Iterator[None]:
    """Hide that the compiler uses parts of PyTorch which PyTorch is about to change."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        yield


def compile_package(region: Region, tensors: Sequence[Tensor], path: Path) -> None:
    """Compile a region for arguments like `tensors` into `path`, which is complete or absent at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        pytorch_does_not_warn_of_itself(),
        torch.no_grad(),
        tempfile.TemporaryDirectory(dir=path.parent) as folder,
    ):
        from torch._inductor import aoti_compile_and_package

        exported = torch.export.export(region, tuple(tensor.clone() for tensor in tensors))
        made = aoti_compile_and_package(exported, package_path=str(Path(folder, "region.pt2")))
        os.replace(made, path)
