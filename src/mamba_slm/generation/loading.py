"""A model, ready to run, and its tokenizer from one path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mamba_slm.core import registry
from mamba_slm.core.errors import CheckFailedError, CheckpointError, ConfigError, SetupError, UsageError
from mamba_slm.core.units import format_bytes
from mamba_slm.generation.runtime import Opened, Runtime, RuntimeSettings, TorchRuntime
from mamba_slm.model.adapter_choice import Adapted, resolve_adapted
from mamba_slm.model.checkpoint import load_config, load_model
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.huge_pages import move_to_huge_pages
from mamba_slm.model.mapped import copy_mapped
from mamba_slm.model.onnx_contract import is_onnx_folder
from mamba_slm.model.packed import PackedModel
from mamba_slm.model.quantization import PLANS
from mamba_slm.model.quantized import load_nearest, load_quantized, quantization_of
from mamba_slm.model.stack import LanguageModel
from mamba_slm.model.stretch import describe_stretch, stretched
from mamba_slm.ops.lowbit.linear import slow_products
from mamba_slm.ops.native.start import start_native_kernels
from mamba_slm.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class LoadedModel:
    """What one needs to talk with a model."""

    runtime: Runtime[Any]
    tokenizer: Tokenizer
    folder: Path
    """The model folder that the path led to."""
    reason: str
    """Why it runs where it runs, for the user."""
    adapted: Adapted | None = None
    """The base and the adapters, where the model has some: no folder holds its weights."""

    @property
    def weights_folder(self) -> Path | None:
        """The folder whose files hold exactly these weights; None where adapters were merged into them."""
        return self.folder if self.adapted is None else None


RUNTIMES = {
    "torch": "mamba_slm.generation.loading:open_torch",
    "onnx": "mamba_slm.generation.onnx_runtime:open_onnx",
    "compiled": "mamba_slm.generation.compiled.runtime:open_compiled",
    "cuda-graph": "mamba_slm.generation.cuda_graph:open_cuda_graph",
}
"""By name: functions (path, settings) -> Opened."""


def choose_device(name: str) -> tuple[torch.device, str]:
    """The device for `auto`, `cpu` or `cuda[:i]`, and why it was chosen.

    Raises:
        SetupError: there is no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda"), "auto: a GPU is there"
        return torch.device("cpu"), "auto: no GPU found"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises AssertionError when built without CUDA
        raise SetupError(
            f"device {name!r} cannot be used: {str(error).splitlines()[0]}", hint="use --device auto, cpu or cuda"
        ) from error
    return device, "asked for"


def open_torch(path: Path, settings: RuntimeSettings) -> Opened:
    """Run a model folder, a training checkpoint or the best checkpoint of a run directory with PyTorch.

    Raises:
        CheckpointError: no model there, or a damaged one.
        SetupError: there is no such device.
    """
    if settings.provider is not None:
        raise ConfigError(
            f"provider {settings.provider!r} is a choice of ONNX Runtime, and PyTorch runs {path}",
            hint="use --device, or export the model: mamba-slm export onnx MODEL --out FOLDER",
        )
    device, reason = choose_device(settings.device)
    if is_onnx_folder(path):
        raise UsageError(f"{path} holds a model for ONNX Runtime, not for PyTorch", hint="use --runtime onnx")
    adapted = resolve_adapted(path, settings.adapters)
    folder = adapted.base
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)

    def change(config: ModelConfig) -> ModelConfig:
        return stretched(config, settings.context_tokens or 0, settings.rope_scaling)

    def merged(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        if not adapted.adapters:
            return weights
        from mamba_slm.model.adapter import MergedTensors

        return MergedTensors(load_config(folder), weights, adapted.adapters)

    quantization = quantization_of(folder)
    if adapted.adapters and quantization is not None:
        raise UsageError(
            f"{folder} is quantized ({quantization}), and adapters cannot be added to rounded numbers",
            hint="use the model that it was made from, with --weights for rounding it while it is read",
        )
    if quantization is not None and settings.weights is not None:
        raise UsageError(
            f"{path} is quantized already ({quantization}), so its weights cannot be held as {settings.weights}",
            hint="leave out --weights",
        )
    if quantization is not None:
        model: LanguageModel = load_quantized(folder, device=device, dtype=None, change=change)
    elif settings.weights in PLANS:
        model = load_nearest(folder, PLANS[settings.weights], device=device, change=change, merged=merged)
    else:
        dtype = torch.bfloat16 if settings.weights == "bfloat16" else torch.float32
        model = load_model(folder, device=device, dtype=dtype, change=change, merged=merged)
    if settings.context_tokens is not None:
        reason += f"; {describe_stretch(model.config)}"
    if settings.kernels and device.type == "cpu":
        started = start_native_kernels(settings.say)
        if started.left:
            settings.say(str(started))
    if isinstance(model, PackedModel):
        reason += f"; {settings.weights or quantization} weights, {format_bytes(model.num_bytes)}"
        if slow := slow_products(model.packed_weights()):
            settings.say(slow)
    if not move_to_huge_pages(model):
        copy_mapped(model)  # or else whoever cuts the file short ends this process
    if not adapted.adapters:
        return Opened(TorchRuntime(model), folder, reason)
    return Opened(TorchRuntime(model), adapted.tokenizer_folder, f"{reason}; {adapted}", adapted)


def compiled_if_possible(opened: Opened, settings: RuntimeSettings) -> Opened:
    """The same model with a compiled decoding step, or as it is after saying why not."""
    from mamba_slm.generation.compiled.runtime import CompiledRuntime

    assert isinstance(opened.runtime, TorchRuntime)
    try:
        return replace(opened, runtime=CompiledRuntime(opened.runtime.model, say=settings.say))
    except (SetupError, CheckFailedError) as error:
        settings.say(f"decoding without a compiled step: {error.message}")
        return opened


def load(path: Path | str, *, runtime: str = "auto", settings: RuntimeSettings | None = None) -> LoadedModel:
    """Open a model with one of `RUNTIMES`, and its tokenizer; "auto" takes what the path was made for, and for
    PyTorch on a CPU the compiled step where `settings.kernels` allow it and it works.

    Raises:
        UnknownNameError: no runtime of this name.
        CheckpointError: a damaged model, or a tokenizer that does not belong to it.
        DataError: no model there, or the tokenizer is missing or broken.
        SetupError: this machine lacks what `settings` ask for.
    """
    path, settings = Path(path), settings or RuntimeSettings()
    if runtime == "auto":
        runtime = "onnx" if is_onnx_folder(path) else "torch"
        opened: Opened = registry.load("runtime", runtime, RUNTIMES)(path, settings)
        if settings.kernels and runtime == "torch" and opened.runtime.device.type == "cpu":
            opened = compiled_if_possible(opened, settings)
        elif runtime == "torch" and opened.runtime.device.type == "cuda":
            from mamba_slm.generation.cuda_graph import graphs_if_possible

            opened = graphs_if_possible(opened)
    else:
        opened = registry.load("runtime", runtime, RUNTIMES)(path, settings)
    tokenizer, folder = Tokenizer.load(opened.folder), opened.folder
    if tokenizer.vocab_size > opened.runtime.config.vocab_size:
        raise CheckpointError(
            f"{folder} holds a tokenizer of {tokenizer.vocab_size} tokens, but a model of "
            f"{opened.runtime.config.vocab_size}",
            hint="copy the tokenizer.json that the model was trained with into the folder",
        )
    return LoadedModel(opened.runtime, tokenizer, folder, opened.reason, opened.adapted)
