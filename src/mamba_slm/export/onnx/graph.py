"""Writing an ONNX graph node by node, with readable names."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mamba_slm.core.optional import require

CONTRIB = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""
DEFAULT_DOMAIN = ""
PURPOSE = "exporting to ONNX"


class GraphWriter:
    """Collects nodes, constants, inputs and outputs; `to_model` makes an `onnx.ModelProto` of them.

    Values are referred to by name. A node is named after the scope it is written in: "sublayer 3/scan/MatMul_1".
    """

    def __init__(self) -> None:
        self.onnx = require("onnx", extra="onnx", purpose=PURPOSE)
        self.nodes: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.initializers: dict[str, Any] = {}
        self.constants: dict[tuple[bytes, str, tuple[int, ...]], str] = {}
        self.domains: set[str] = {DEFAULT_DOMAIN}
        self.counts: Counter[str] = Counter()
        self.path: list[str] = []

    @contextlib.contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Name what is written inside after `name`."""
        self.path.append(name)
        try:
            yield
        finally:
            self.path.pop()

    def unique(self, kind: str) -> str:
        """A name that no other value or node has."""
        name = "/".join([*self.path, kind])
        self.counts[name] += 1
        return name if self.counts[name] == 1 else f"{name}_{self.counts[name] - 1}"

    def node(
        self, kind: str, *inputs: str, domain: str = DEFAULT_DOMAIN, outputs: Sequence[str], **attributes: Any
    ) -> None:
        """Add a node whose outputs are named by the caller; "" leaves out an optional input or output."""
        name = self.unique(kind)
        self.domains.add(domain)
        self.nodes.append(
            self.onnx.helper.make_node(kind, list(inputs), list(outputs), name=name, domain=domain, **attributes)
        )

    def op(self, kind: str, *inputs: str, domain: str = DEFAULT_DOMAIN, output: str = "", **attributes: Any) -> str:
        """Add a node with one output, called `output` if that is given, and return the output's name."""
        output = output or self.unique(f"{kind}.out")
        self.node(kind, *inputs, domain=domain, outputs=[output], **attributes)
        return output

    def split(self, value: str, sizes: Sequence[int]) -> list[str]:
        """Cut the last axis into pieces of these sizes."""
        outputs = [self.unique("Split.out") for _ in sizes]
        self.node("Split", value, self.ints(list(sizes)), outputs=outputs, axis=-1)
        return outputs

    def initializer(self, name: str, array: NDArray[Any]) -> str:
        """Store a weight under its name; a second time it is the same tensor."""
        if name not in self.initializers:
            self.initializers[name] = self.onnx.numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def four_bits(self, name: str, array: NDArray[np.int8] | NDArray[np.uint8]) -> str:
        """Store whole numbers from -8 to 7, or from 0 to 15 where the array has no sign, as a tensor of 4 bits."""
        if name not in self.initializers:
            flat = (array & 15).astype(np.uint8).ravel()
            flat = np.concatenate([flat, np.zeros(flat.size % 2, dtype=np.uint8)])
            packed = (flat[0::2] | (flat[1::2] << 4)).tobytes()
            kind = self.onnx.TensorProto.UINT4 if array.dtype == np.uint8 else self.onnx.TensorProto.INT4
            self.initializers[name] = self.onnx.helper.make_tensor(name, kind, array.shape, packed, raw=True)
        return name

    def constant(self, array: NDArray[Any]) -> str:
        """A small constant; equal ones are stored once."""
        key = (array.tobytes(), str(array.dtype), array.shape)
        if key not in self.constants:
            name = f"constant.{len(self.constants)}"
            self.constants[key] = self.initializer(name, array)
        return self.constants[key]

    def ints(self, values: Sequence[int] | int) -> str:
        """An int64 constant: [n] from a sequence, a scalar from a number."""
        return self.constant(np.array(values, dtype=np.int64))

    def floats(self, values: NDArray[Any] | Sequence[float] | float) -> str:
        """A float32 constant: [n] from a sequence, a scalar from a number."""
        return self.constant(np.array(values, dtype=np.float32))

    def input(self, name: str, dtype: type[np.generic], shape: Sequence[int | str]) -> str:
        """Declare a graph input; strings are free sizes."""
        self.inputs.append(self.tensor_info(name, dtype, shape))
        return name

    def output(self, name: str, shape: Sequence[int | str], dtype: type[np.generic] = np.float32) -> None:
        """Declare a graph output."""
        self.outputs.append(self.tensor_info(name, dtype, shape))

    def tensor_info(self, name: str, dtype: type[np.generic], shape: Sequence[int | str]) -> Any:
        """A `ValueInfoProto`."""
        element = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.onnx.helper.make_tensor_value_info(name, element, list(shape))

    def to_model(self, name: str, *, opset: int, ir_version: int) -> Any:
        """The whole as an `onnx.ModelProto`."""
        helper = self.onnx.helper
        graph = helper.make_graph(
            self.nodes, name, self.inputs, self.outputs, initializer=list(self.initializers.values())
        )
        versions = {DEFAULT_DOMAIN: opset, CONTRIB: 1}
        imports = [helper.make_opsetid(domain, versions[domain]) for domain in sorted(self.domains)]
        return helper.make_model(graph, opset_imports=imports, ir_version=ir_version, producer_name="mamba-slm")
