"""A model that `mamba-slm export onnx` wrote, run by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mamba_slm.core.errors import ConfigError, UsageError
from mamba_slm.generation.onnx_session import OnnxGraph, choose_provider, onnxruntime, open_graph
from mamba_slm.generation.onnx_state import KeptStates, OnnxStates, RenewedStates, works_in_place
from mamba_slm.generation.runtime import Opened, PromptReader, RuntimeSettings
from mamba_slm.model.checkpoint import resolve_model_folder
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.onnx_contract import is_onnx_folder, read_onnx_contract


class OnnxRuntime:
    """An exported graph. Tokens and logits are on the CPU, whatever the provider."""

    device = torch.device("cpu")
    prompt_reader: PromptReader | None = None

    def __init__(self, graph: OnnxGraph, config: ModelConfig, *, description: str):
        self.graph = graph
        self.config = config
        self.description = description
        self.states: type[OnnxStates] = KeptStates if works_in_place(graph) else RenewedStates

    def new_state(self, rows: int) -> OnnxStates:
        return self.states.empty(self.graph, rows)

    def next_logits(self, tokens: Tensor, padding_mask: Tensor | None, state: OnnxStates) -> Tensor:
        given = tokens.numpy()
        new = None if padding_mask is None else padding_mask.numpy()
        self.require_room(lengths_of(given, new), state)
        if given.shape[1] > 1 and len(state.counts) > 1 and state.slots > 0 and self.graph.form == "fused":
            return torch.from_numpy(one_by_one(given, new, state))
        return torch.from_numpy(state.read(given, new))

    def require_room(self, lengths: list[int], state: OnnxStates) -> None:
        """Raise ConfigError if so many new tokens of each row would pass the model's context."""
        longest = max(before + length for before, length in zip(state.counts, lengths, strict=True))
        if longest > self.config.max_context_tokens:
            raise ConfigError(
                f"{longest} tokens do not fit into the model's context of {self.config.max_context_tokens}",
                hint="shorten the text",
            )


def lengths_of(tokens: np.ndarray, new: np.ndarray | None) -> list[int]:
    """Real tokens of each row of [b L]."""
    return [tokens.shape[1]] * len(tokens) if new is None else new.sum(axis=1).tolist()


def one_by_one(tokens: np.ndarray, new: np.ndarray | None, state: OnnxStates) -> np.ndarray:
    """Read a further piece of several rows, row after row: `GroupQueryAttention` takes no more at a time.

    Returns: logits [b v], zeros for a row without a real token.
    """
    rows = [state.select(torch.tensor([row])) for row in range(len(state.counts))]
    lengths = lengths_of(tokens, new)
    logits: list[np.ndarray | None] = [
        row.read(tokens[number : number + 1, :length], None) if length else None
        for number, (row, length) in enumerate(zip(rows, lengths, strict=True))
    ]
    state.join(rows)
    some = next(each for each in logits if each is not None)
    return np.concatenate([np.zeros_like(some) if each is None else each for each in logits])


def open_onnx(path: Path, settings: RuntimeSettings) -> Opened:
    """Run a folder that `mamba-slm export onnx` wrote.

    Raises:
        UsageError: a model that was not exported; the hint is the command that does it.
        DataError: no model there, or a damaged one.
        ConfigError: a device of PyTorch was asked for.
        SetupError: this onnxruntime lacks the provider, or is absent.
    """
    if settings.device not in ("auto", "cpu"):
        raise ConfigError(
            f"device {settings.device!r} is a choice of PyTorch, and ONNX Runtime runs {path}",
            hint=f"use --provider {settings.device.partition(':')[0]}",
        )
    if settings.context_tokens is not None:
        raise ConfigError(
            f"the context of {path} is fixed in its graph", hint="mamba-slm extend MODEL, then mamba-slm export onnx"
        )
    if settings.weights is not None:
        raise ConfigError(
            f"weights in {settings.weights} are a choice of PyTorch, and ONNX Runtime runs {path}",
            hint="the export decides: mamba-slm export onnx MODEL --out FOLDER --weights int8",
        )
    if settings.adapters:
        raise ConfigError(
            f"adapters cannot be added to the graph of {path}",
            hint="export the model with its adapter: mamba-slm export onnx MODEL --adapter FOLDER",
        )
    provider = choose_provider(settings.provider)
    if not is_onnx_folder(path):
        resolve_model_folder(path)
        raise UsageError(
            f"{path} is a model for PyTorch; ONNX Runtime runs exported ones",
            hint=f"mamba-slm export onnx {path} --out {path.name}-onnx --weights int8",
        )
    contract = read_onnx_contract(path)
    threads = settings.threads or torch.get_num_threads()
    graph = open_graph(contract, path, provider=provider, threads=threads)
    runtime = OnnxRuntime(graph, contract.config, description="")
    runtime.description = ", ".join(
        [
            f"onnxruntime {onnxruntime().__version__}",
            provider,
            "1 thread" if threads == 1 else f"{threads} threads",
            f"{contract.weights} weights",
            f"{graph.form} graph",
            "states in place" if runtime.states is KeptStates else "states renewed by every call",
        ]
    )
    return Opened(runtime, path, "asked for" if settings.provider else "automatic: --provider names another")
