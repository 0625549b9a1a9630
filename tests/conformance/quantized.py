"""Our model with matrices in 8 and 4 bits: every way to run it computes with the same numbers. No gradients."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path as FilePath

import torch
from torch import Tensor

from conformance.exports import tiny_tokenizer
from conformance.models import ALL_CONFIGS, base_model
from conformance.paths import (
    LogitsOf,
    Path,
    by_the_compiled_step,
    in_pieces,
    one_by_one,
    packed_and_padded,
    padded,
    prefill_cut,
)
from mamba_slm.export.gguf.read import read_gguf
from mamba_slm.export.gguf.stored import AS_STORED, with_padded_source
from mamba_slm.export.gguf.write import plan_file, write_gguf
from mamba_slm.export.onnx.export import write_onnx_folder
from mamba_slm.export.onnx.readings import in_pieces as read_in_pieces
from mamba_slm.export.onnx.readings import read_batch
from mamba_slm.export.onnx.runner import OnnxRunner
from mamba_slm.export.source import Source, open_source
from mamba_slm.model.packed import nearest_model
from mamba_slm.model.quantization import plan_named
from mamba_slm.model.quantized import load_dequantized, load_quantized
from mamba_slm.model.stack import LanguageModel
from mamba_slm.ops.native.library import missing_for_native
from quantized_models import save_quantized_model
from tolerances import QUANTIZED_WEIGHTS

STEPS = 12
"""Tokens that are read one at a time, at the beginning and in the middle: three times the convolution."""
SAVED: dict[tuple[str, str], tempfile.TemporaryDirectory] = {}
"""Folders that live as long as the process."""


def saved(layout: str, weights: str) -> FilePath:
    """A model folder as `quantize` writes it, made once."""
    if (layout, weights) not in SAVED:
        SAVED[layout, weights] = tempfile.TemporaryDirectory()
        save_quantized_model(base_model(layout), FilePath(SAVED[layout, weights].name) / "model", weights)
    return FilePath(SAVED[layout, weights].name) / "model"


def dequantized(layout: str, *, weights: str) -> LanguageModel:
    """What the definition runs on."""
    return load_dequantized(saved(layout, weights))


def in_memory(layout: str, *, weights: str) -> LanguageModel:
    """Rounded and packed, never on a disk."""
    return nearest_model(base_model(layout), plan_named(weights), dtype=torch.float32)


def loaded(layout: str, *, weights: str) -> LanguageModel:
    """Written and read again, without becoming float32 in between."""
    return load_quantized(saved(layout, weights), dtype=torch.float32)


def step_by_step(model: LanguageModel, sequences: Sequence[Tensor]) -> list[Tensor]:
    """Some tokens one at a time, at the beginning and in the middle."""
    halves = [len(tokens) // 2 for tokens in sequences]
    cuts = [(*range(STEPS), *range(half, half + STEPS)) for half in halves]
    return [in_pieces(model, tokens, at) for tokens, at in zip(sequences, cuts, strict=True)]


def layout_of(model: LanguageModel) -> str:
    """The layout that a model has."""
    return next(name for name, config in ALL_CONFIGS.items() if config == model.config)


def through_gguf(model: LanguageModel, sequences: Sequence[Tensor], *, weights: str) -> list[Tensor]:
    """Written as GGUF with its own numbers, read back through `gguf`'s dequantizer, and run in our model."""
    source = open_source(saved(layout_of(model), weights), needs_tokenizer=False)
    source = with_padded_source(Source(source.folder, source.model, tiny_tokenizer(), source.quantized))
    with tempfile.TemporaryDirectory() as folder:
        path = FilePath(folder) / "model.gguf"
        write_gguf(plan_file(source, file_type=AS_STORED, name="conformance"), path)
        read = read_gguf(path).model
    return [logits[:, : model.config.vocab_size] for logits in one_by_one(read, sequences)]


def in_onnx_runtime(
    model: LanguageModel, sequences: Sequence[Tensor], *, weights: str, in_float32: bool
) -> list[Tensor]:
    """The logits that ONNX Runtime gives for the graph with the same numbers, read in pieces."""
    source = open_source(saved(layout_of(model), weights), needs_tokenizer=False)
    found: dict[int, Tensor] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_onnx_folder(source, FilePath(folder))
        runner = OnnxRunner(FilePath(folder), num_threads=1, in_float32=in_float32)
        for batch in read_in_pieces([tokens.tolist() for tokens in sequences]):
            for number, (logits, *_) in zip(
                batch.sequences, read_batch(runner.session, runner.config, batch), strict=True
            ):
                found[number] = torch.from_numpy(logits)
    return [found[number] for number in range(len(sequences))]


def left_padded(model: LanguageModel, sequences: Sequence[Tensor]) -> list[Tensor]:
    """All sequences as the rows of one batch."""
    return padded(model, sequences, "left")


WAYS: dict[str, tuple[str, LogitsOf]] = {
    "": ("each sequence alone", one_by_one),
    ", cut": ("a state carried over cuts", prefill_cut),
    ", one token at a time": (f"the decoding step for {STEPS} tokens at the beginning and in the middle", step_by_step),
    ", left-padded": ("all sequences in one batch, padded on the left", left_padded),
    ", packed and padded": ("two rows of packed documents of different length", packed_and_padded),
    ", compiled step": ("the second half of the tokens by the step in C++, as one of two rows", by_the_compiled_step),
}


def paths_of(weights: str) -> list[Path]:
    """Every way to run a model with these weights."""

    def path(ending: str, what: str, logits: LogitsOf, model=in_memory, layouts=("portable", "classic")) -> Path:
        return Path(
            name=f"{weights}{ending}",
            what=what,
            logits=logits,
            layouts=layouts,
            row=f"{weights} weights",
            gradients=False,
            surroundings=torch.no_grad,
            model=partial(model, weights=weights),
            weights=weights,
        )

    found = [
        path(ending, what, logits)
        for ending, (what, logits) in WAYS.items()
        if ending != ", compiled step" or missing_for_native() is None
    ]
    found.append(
        path(", saved and loaded", "written as safetensors and read again, each sequence alone", one_by_one, loaded)
    )
    if weights != "nf4":
        what = "exported with its own numbers, read back, each sequence alone"
        found.append(path(", GGUF", what, partial(through_gguf, weights=weights)))
    what = "the exported graph with its own numbers in ONNX Runtime, cut, products in float32"
    found.append(path(", ONNX", what, partial(in_onnx_runtime, weights=weights, in_float32=True)))
    if weights != "nf4":
        what = "the same graph as it runs, with the inputs of products rounded to 8 bits"
        as_it_runs = path(", ONNX as it runs", what, partial(in_onnx_runtime, weights=weights, in_float32=False))
        found.append(replace(as_it_runs, row=f"{weights} weights, inputs in 8 bits"))
    return found


QUANTIZED: dict[str, Path] = {path.name: path for weights in QUANTIZED_WEIGHTS for path in paths_of(weights)}
