"""The model of a benchmark in the formats of other programs, with the same weights."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mamba_slm.cli import console

if TYPE_CHECKING:
    from mamba_slm.export.source import Source

LLAMA_CPP = "llama.cpp"


def chosen_engines(engines: Sequence[str] | None, *, onnx: bool) -> tuple[str, ...]:
    """What `--engines` names; with `--onnx` alone every engine that is installed.

    Raises:
        MissingDependencyError: a named one is not installed.
        UnknownNameError: there is no such engine.
    """
    from mamba_slm.core.errors import UnknownNameError
    from mamba_slm.core.optional import require
    from mamba_slm.evaluation.bench.names import ENGINES

    if engines is None:
        if not onnx:
            return ()
        has_llama_cpp = importlib.util.find_spec("llama_cpp") is not None
        if not has_llama_cpp:
            console.say("llama.cpp is left out: llama-cpp-python is not installed")
        engines = tuple(name for name in ENGINES if has_llama_cpp or not name.startswith(LLAMA_CPP))
    for name in engines:
        if name not in ENGINES:
            raise UnknownNameError("engine", name, ENGINES)
        if name.startswith(LLAMA_CPP):
            from mamba_slm.evaluation.bench.engines import llama_cpp

            llama_cpp()
            require("gguf", extra="gguf", purpose="writing GGUF files")
        else:
            require("onnx", extra="onnx", purpose="exporting to ONNX")
            require("onnxruntime", extra="onnx", purpose="comparing with ONNX Runtime")
    return tuple(engines)


def export_for(
    engines: Sequence[str], model: str, *, seed: int, folder: Path, context_tokens: int | None = None
) -> dict[str, Path]:
    """Write what each engine runs into `folder`; the contenders prove that it is the same function.

    Args:
        context_tokens: see `contenders.named_config`.

    Raises:
        ConfigError: llama.cpp does not compute this model.
    """
    from mamba_slm.evaluation.bench.contenders import named_model
    from mamba_slm.evaluation.bench.names import ENGINES
    from mamba_slm.export.source import Source
    from mamba_slm.model.presets import SIZES
    from mamba_slm.model.quantized import require_float

    if not engines:
        return {}
    if model not in SIZES:
        require_float(model, purpose="timing other engines, which round the weights themselves,")
    source = Source(folder, named_model(model, seed, context_tokens), None)
    exported = {}
    for name in engines:
        console.say(f"exporting for {ENGINES[name]}")
        write = write_gguf_file if name.startswith(LLAMA_CPP) else write_onnx
        exported[name] = write(source, name, folder / name)
    return exported


def write_onnx(source: Source, engine: str, path: Path) -> Path:
    """The fused graph with the engine's weights."""
    from mamba_slm.export.onnx.export import write_onnx_folder

    path.mkdir()
    write_onnx_folder(source, path, weights=engine.removeprefix("onnx-"))  # type: ignore[arg-type]
    return path


def write_gguf_file(source: Source, engine: str, path: Path) -> Path:
    """The file with the engine's weights, and a vocabulary of bytes: no text is read."""
    from mamba_slm.export.gguf.write import plan_file, write_gguf
    from mamba_slm.export.source import Source as WithTokenizer
    from mamba_slm.text.train_tokenizer import SMALLEST_VOCABULARY, train_tokenizer

    tokenizer = train_tokenizer(["merged merged"], vocab_size=SMALLEST_VOCABULARY + 1)  # it loads none without merges
    whole = WithTokenizer(source.folder, source.model, tokenizer)
    file = path.with_name(f"{path.name}.gguf")  # its name has a point, so it is no suffix that is changed
    write_gguf(plan_file(whole, file_type=engine.removeprefix("llama.cpp-").upper(), name=path.name), file)
    return file
