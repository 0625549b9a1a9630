"""A state as named tensors of exactly what counts, and back: unused slots and histories are left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mamba_slm.core.errors import UsageError
from mamba_slm.generation.onnx_state import OnnxStates
from mamba_slm.generation.runtime import Runtime, RuntimeState
from mamba_slm.model.onnx_contract import OnnxState
from mamba_slm.model.state import InferenceState, KeyValueState, MambaState, PluginState

TORCH, ONNX = "torch", "onnx"
SLOTS = 2
"""Axis of keys and values that counts slots."""


def tensors_of_state(state: RuntimeState | InferenceState | OnnxStates) -> tuple[dict[str, Tensor], str]:
    """Tensors on the CPU, contiguous and not shared with the state, and the kind of state they make.

    Raises:
        UsageError: a state of a kind that is not known here.
    """
    if isinstance(state, InferenceState):
        return torch_tensors(state), TORCH
    if isinstance(state, OnnxStates):
        return onnx_tensors(state), ONNX
    raise UsageError(f"a state of the kind {type(state).__name__} cannot be stored")


def state_of_tensors(runtime: Runtime[Any], tensors: Mapping[str, Tensor], kind: str) -> Any:
    """The `RuntimeState` that the tensors are, for `runtime`; it may keep and overwrite them.

    Raises:
        ValueError: they are not those of a state of this runtime: names, shapes or dtypes.
    """
    rows = count_of_rows(tensors)
    empty = runtime.new_state(rows)
    expected, expected_kind = tensors_of_state(empty)
    if kind != expected_kind:
        raise ValueError(f"it is a state of the kind {kind!r}, this runtime has {expected_kind!r}")
    if expected.keys() != tensors.keys():
        raise ValueError(f"{sorted(expected.keys() ^ tensors.keys())[0]} is missing or unknown")
    axes = {name: axis for name in tensors if (axis := slot_axis(name)) is not None}
    slots = {tensors[name].shape[axis] for name, axis in axes.items()}
    if len(slots) > 1:
        raise ValueError(f"its tensors have different numbers of slots: {sorted(slots)}")
    for name, tensor in tensors.items():
        shape = list(expected[name].shape)
        if name in axes:
            shape[axes[name]] = tensor.shape[axes[name]]
        if list(tensor.shape) != shape or tensor.dtype != expected[name].dtype:
            raise ValueError(f"{name} is {list(tensor.shape)} {tensor.dtype}, not {shape} {expected[name].dtype}")
    if isinstance(empty, InferenceState):
        return fill(empty, tensors, runtime.device)
    assert isinstance(empty, OnnxStates)
    arrays = [tensors[name_of_array(number, state)].numpy() for number, state in enumerate(empty.graph.states)]
    return type(empty)(empty.graph, arrays, tensors["num_tokens"].tolist())


def count_of_rows(tensors: Mapping[str, Tensor]) -> int:
    """Rows of a state.

    Raises:
        ValueError: that cannot be told.
    """
    if "num_tokens" not in tensors or tensors["num_tokens"].dim() != 1:
        raise ValueError("num_tokens is missing")
    return tensors["num_tokens"].shape[0]


def slot_axis(name: str) -> int | None:
    """The axis of a tensor that grows with the text."""
    if name in ("positions", "valid"):
        return 1
    return SLOTS if name.endswith((".keys", ".values")) else None


def torch_tensors(state: InferenceState) -> dict[str, Tensor]:
    """See `tensors_of_state`."""
    used = state.length
    tensors = {
        "num_tokens": state.num_tokens,
        "positions": state.positions[:, :used],
        "valid": state.valid[:, :used],
    }
    for number, layer in enumerate(state.layers):
        if isinstance(layer, MambaState):
            tensors |= {f"layers.{number}.window": layer.window, f"layers.{number}.ssm": layer.ssm}
        elif isinstance(layer, KeyValueState):
            tensors[f"layers.{number}.keys"] = layer.keys[:, :, :used]
            tensors[f"layers.{number}.values"] = layer.values[:, :, :used]
        elif isinstance(layer, PluginState):
            tensors |= {f"layers.{number}.plugin.{name}.tensor": tensor for name, tensor in layer.tensors.items()}
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }


def fill(empty: InferenceState, tensors: Mapping[str, Tensor], device: torch.device) -> InferenceState:
    """Put the tensors into a state before its first token."""
    used = tensors["positions"].shape[1]
    empty.reserve(used)
    for number, layer in enumerate(empty.layers):
        if isinstance(layer, MambaState):
            layer.window = tensors[f"layers.{number}.window"].to(device)
            layer.ssm = tensors[f"layers.{number}.ssm"].to(device)
        elif isinstance(layer, KeyValueState):
            layer.keys[:, :, :used] = tensors[f"layers.{number}.keys"].to(device)
            layer.values[:, :, :used] = tensors[f"layers.{number}.values"].to(device)
        elif isinstance(layer, PluginState):
            layer.tensors = {
                name: tensors[f"layers.{number}.plugin.{name}.tensor"].to(device) for name in layer.tensors
            }
    empty.positions[:, :used] = tensors["positions"].to(device)
    empty.valid[:, :used] = tensors["valid"].to(device)
    empty.num_tokens = tensors["num_tokens"].to(device)
    empty.length, empty.has_padding = used, not bool(tensors["valid"].all())
    empty.dropped = max(0, int(tensors["num_tokens"].max()) - used)
    return empty


def onnx_tensors(state: OnnxStates) -> dict[str, Tensor]:
    """See `tensors_of_state`; a snapshot has the slots that count and no more."""
    arrays = state.snapshot().arrays()
    tensors = {"num_tokens": state.num_tokens}
    for number, (array, described) in enumerate(zip(arrays, state.graph.states, strict=True)):
        tensors[name_of_array(number, described)] = torch.from_numpy(array.copy())
    return tensors


def name_of_array(number: int, state: OnnxState) -> str:
    """Of one of a graph's states; those that grow with the text are keys or values."""
    return f"states.{number}{'.keys' if state.grows else ''}"
