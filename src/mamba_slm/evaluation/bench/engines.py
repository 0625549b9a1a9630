"""The same model in other programs, exported before the run: ONNX Runtime and llama.cpp, as contenders for inference.

Letters: t time, v vocabulary.
"""

from __future__ import annotations

import ctypes
import importlib
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mamba_slm.core.errors import MissingDependencyError
from mamba_slm.evaluation.bench.in_runtime import InRuntime
from mamba_slm.evaluation.bench.names import ENGINES
from mamba_slm.generation.onnx_runtime import open_onnx
from mamba_slm.generation.runtime import RuntimeSettings
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import count_parameters

READ_AT_ONCE = 512
"""Tokens that llama.cpp reads in one call, its own default."""


class OnnxEngine(InRuntime):
    """A folder of `mamba-slm export onnx`, through the functions that `mamba-slm generate` calls."""

    def __init__(self, exported: Path, *, threads: int):
        opened = open_onnx(exported, RuntimeSettings(threads=threads))
        self.runtime = opened.runtime
        self.parameters = count_parameters(self.runtime.config).total
        self.weight_bytes = sum(file.stat().st_size for file in exported.glob("onnx/*"))
        self.settings = {"inference": "stream_tokens, greedy", "runtime": self.runtime.description}

    def kept_bytes(self) -> int | None:
        return sum(array.nbytes for array in self.state.arrays())


class LlamaCppEngine:
    """A GGUF file in llama.cpp, through its C interface: no more Python per token than one call and one argmax."""

    def __init__(self, exported: Path, *, config: ModelConfig, threads: int, max_tokens: int):
        self.cpp = llama_cpp()
        self.silence = self.cpp.llama_log_callback(lambda level, text, data: None)
        self.cpp.llama_log_set(self.silence, ctypes.c_void_p(0))
        self.model = self.cpp.llama_model_load_from_file(str(exported).encode(), self.cpp.llama_model_default_params())
        options = self.cpp.llama_context_default_params()
        options.n_ctx, options.n_threads, options.n_threads_batch = max_tokens, threads, threads
        options.n_batch = options.n_ubatch = READ_AT_ONCE
        self.context = self.cpp.llama_init_from_model(self.model, options)
        if not self.context:
            raise RuntimeError(f"llama.cpp does not load {exported}")
        self.vocab_size = config.vocab_size
        self.parameters = count_parameters(config).total
        self.weight_bytes = exported.stat().st_size
        self.settings = {
            "inference": f"llama_decode, greedy by argmax; keys and values in F16, {threads} threads, its defaults",
            "version": f"llama-cpp-python {self.cpp.__version__}",
        }

    def read(self, tokens: np.ndarray) -> np.ndarray:
        """Feed tokens [t] int32; the logits [v] behind the last one, valid until the next call."""
        for start in range(0, len(tokens), READ_AT_ONCE):
            piece = np.ascontiguousarray(tokens[start : start + READ_AT_ONCE], dtype=np.int32)
            pointer = piece.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
            code = self.cpp.llama_decode(self.context, self.cpp.llama_batch_get_one(pointer, len(piece)))
            if code:
                raise RuntimeError(f"llama_decode failed with code {code}")
        logits = self.cpp.llama_get_logits_ith(self.context, -1)
        return np.ctypeslib.as_array(logits, shape=(self.vocab_size,))

    def begin(self, tokens: np.ndarray) -> np.ndarray:
        """Forget what was read, and read [t]."""
        self.cpp.llama_memory_clear(self.cpp.llama_get_memory(self.context), True)
        return self.read(tokens)

    def prefill(self, tokens: Tensor) -> None:
        self.begin(tokens[0].numpy()).argmax()

    def last_logits(self, tokens: Tensor, one_by_one: int) -> Tensor:
        self.known = tokens[0].numpy()
        together = len(self.known) - one_by_one
        logits = self.begin(self.known[:together])
        for position in range(together, len(self.known)):
            logits = self.read(self.known[position : position + 1])
        return torch.from_numpy(logits.copy())[None]

    def decode(self, new_tokens: int) -> float:
        token = np.array([self.begin(self.known).argmax()], dtype=np.int32)  # it cannot go back, so it reads again
        start = time.perf_counter()
        for _ in range(new_tokens):
            token[0] = self.read(token).argmax()
        return time.perf_counter() - start

    def kept_bytes(self) -> int | None:
        return None


def llama_cpp() -> Any:
    """llama-cpp-python.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        return importlib.import_module("llama_cpp")
    except ImportError as error:
        raise MissingDependencyError(
            f"comparing with llama.cpp needs llama_cpp, which could not be imported: {error}",
            hint="pip install llama-cpp-python (it compiles llama.cpp, about ten minutes on two cores)",
        ) from error


def build_engine(
    name: str, exported: Path, *, config: ModelConfig, threads: int, max_tokens: int
) -> OnnxEngine | LlamaCppEngine:
    """The engine of this name with what was exported for it; `max_tokens` is the context that it must hold."""
    assert name in ENGINES
    if name.startswith("llama.cpp"):
        return LlamaCppEngine(exported, config=config, threads=threads, max_tokens=max_tokens)
    return OnnxEngine(exported, threads=threads)
