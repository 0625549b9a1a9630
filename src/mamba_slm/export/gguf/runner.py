"""Run a GGUF: through our own model on its dequantized weights, or in llama.cpp itself."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from mamba_slm.core.errors import DataError, MissingDependencyError
from mamba_slm.export.gguf.read import ReadModel, read_gguf
from mamba_slm.export.source import Source
from mamba_slm.export.trace import OurRunner, Trace

F32_CACHE = 0  # GGML_TYPE_F32: keys and values as exact as ours
LLAMA_CPP_PACKAGE = "llama_cpp"
LOGS: list[Any] = []
"""Keeps the latest log callback alive: llama.cpp has one for the whole process."""


class GgufRunner(OurRunner):
    """The file's weights in our model, so that every layer can be seen."""

    def __init__(self, read: ReadModel):
        super().__init__(Source(read.file.path, read.model, read.tokenizer))
        self.read = read
        counted = Counter(kind for kind in read.file.types.values() if kind != "F32")
        self.description = f"GGUF on our model, {', '.join(sorted(counted)) or 'F32'}"


def open_gguf(path: Path) -> GgufRunner:
    """Open a .gguf file of architecture `granitehybrid`.

    Raises:
        DataError, ConfigError, MissingDependencyError: as `read_gguf`.
    """
    return GgufRunner(read_gguf(path))


def llama_cpp_is_installed() -> bool:
    """Whether llama-cpp-python can be imported."""
    return importlib.util.find_spec(LLAMA_CPP_PACKAGE) is not None


def llama_cpp_package() -> ModuleType:
    """llama-cpp-python.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        return importlib.import_module(LLAMA_CPP_PACKAGE)
    except ImportError as error:
        raise MissingDependencyError(
            f"running a model in llama.cpp needs {LLAMA_CPP_PACKAGE}, which could not be imported: {error}",
            hint="pip install llama-cpp-python (it compiles llama.cpp, about ten minutes on two cores)",
        ) from error


def log_into(package: ModuleType, said: list[str]) -> Any:
    """Collect what llama.cpp says instead of printing it. What is returned must live as long as llama.cpp runs."""

    @package.llama_log_callback
    def collect(level: int, text: bytes, user_data: Any) -> None:
        said.append(text.decode(errors="replace"))

    package.llama_log_set(collect, ctypes.c_void_p(0))
    return collect


class LlamaCppRunner:
    """llama.cpp through llama-cpp-python, with keys and values in float32. It shows logits only."""

    def __init__(self, path: Path, *, max_tokens: int = 512):
        """Load the file.

        Args:
            path: a .gguf file that llama.cpp can load.
            max_tokens: length of its context; memory grows with it.

        Raises:
            MissingDependencyError: llama-cpp-python is not installed.
            DataError: llama.cpp refuses the file.
        """
        package = llama_cpp_package()
        said: list[str] = []
        LOGS[:] = [log_into(package, said)]
        try:
            self.llama: Any = package.Llama(
                str(path),
                n_ctx=max_tokens,
                n_batch=max_tokens,
                n_ubatch=max_tokens,
                n_gpu_layers=0,
                n_threads=torch.get_num_threads(),
                n_threads_batch=torch.get_num_threads(),
                logits_all=True,
                type_k=F32_CACHE,
                type_v=F32_CACHE,
                flash_attn=False,
                verbose=False,
            )
        except (ValueError, RuntimeError) as error:
            raise DataError(f"llama.cpp does not load {path}: {error}\n{''.join(said[-3:])}".rstrip()) from error
        self.description = f"llama.cpp in llama-cpp-python {package.__version__}"
        self.vocab_size: int = self.llama.n_vocab()
        self.max_tokens = max_tokens

    def trace(self, tokens: Sequence[int], *, residuals: bool = False) -> Trace:
        """See `Runner.trace`; there are no residuals."""
        self.llama.reset()
        self.llama.eval(list(tokens))
        return Trace(torch.from_numpy(np.array(self.llama.scores[: len(tokens)], dtype=np.float32)))

    def encode(self, text: str) -> list[int] | None:
        """See `Runner.encode`; what looks like a special token is plain text."""
        return self.llama.tokenize(text.encode(), add_bos=False, special=False)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of the tokens, special ones left out."""
        return self.llama.detokenize(list(tokens)).decode(errors="replace")

    def greedy(self, prompt: Sequence[int], num_tokens: int) -> list[int]:
        """The most likely next token, `num_tokens` times, read one at a time as generation does."""
        self.llama.reset()
        self.llama.eval(list(prompt))
        found: list[int] = []
        for _ in range(num_tokens):
            found.append(int(self.llama.scores[self.llama.n_tokens - 1].argmax()))
            self.llama.eval(found[-1:])
        return found

    def close(self) -> None:
        """Free llama.cpp's memory."""
        self.llama.close()
