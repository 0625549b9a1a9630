"""From a model to the ONNX graph of a form, and to a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mamba_slm.core.files import disk_full_is_explained
from mamba_slm.core.optional import require
from mamba_slm.export.onnx import fused, portable
from mamba_slm.export.onnx.description import describe
from mamba_slm.export.onnx.fused import FusedLowering
from mamba_slm.export.onnx.graph import PURPOSE, GraphWriter
from mamba_slm.export.onnx.plan import WeightPlan
from mamba_slm.export.onnx.portable import PortableLowering
from mamba_slm.export.onnx.weights import FusedMatrices, StandardMatrices
from mamba_slm.model.onnx_contract import Form
from mamba_slm.model.stack import LanguageModel

LARGEST_SINGLE_FILE = 1 << 30
"""Bytes of weights above which they go into a file of their own; protobuf ends at 2 GiB."""


def numpy_tensors(model: LanguageModel) -> dict[str, NDArray[np.float32]]:
    """The parameters as float32 arrays, without copying those that are float32."""
    return {name: tensor.detach().float().numpy() for name, tensor in model.state_dict().items()}


def build_graph(model: LanguageModel, form: Form, plan: WeightPlan) -> Any:
    """The `onnx.ModelProto` of a model in one form.

    Raises:
        ConfigError: the form cannot hold this model; names the setting.
        MissingDependencyError: onnx is absent.
    """
    tensors = numpy_tensors(model)
    if form == "fused":
        lowering = FusedLowering(model.config, tensors, FusedMatrices(GraphWriter(), tensors, plan))
        versions = fused.OPSET, fused.IR_VERSION
    else:
        lowering = PortableLowering(model.config, tensors, StandardMatrices(GraphWriter(), tensors, plan))
        versions = portable.OPSET, portable.IR_VERSION
        if plan.weights != "fp32":
            versions = portable.QUANTIZED_OPSET, portable.QUANTIZED_IR_VERSION
    describe(model.config, lowering)
    return lowering.finish(opset=versions[0], ir_version=versions[1])


def save_graph(graph: Any, path: Path) -> None:
    """Write the graph; weights of more than `LARGEST_SINGLE_FILE` bytes go to `path`_data beside it.

    Raises:
        DiskFullError: no room.
    """
    onnx = require("onnx", extra="onnx", purpose=PURPOSE)
    path.parent.mkdir(parents=True, exist_ok=True)
    total = sum(len(tensor.raw_data) for tensor in graph.graph.initializer)
    external: Mapping[str, Any] = {}
    if total > LARGEST_SINGLE_FILE:
        external = {"save_as_external_data": True, "location": f"{path.name}_data"}
    with disk_full_is_explained(path.parent):
        onnx.save_model(graph, path, **external)
