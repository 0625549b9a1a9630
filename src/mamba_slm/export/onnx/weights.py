"""The matrices of the model in a graph: float32, or blocks of 8 or 4 bits with one scale each.

Letters: o outputs, i inputs, k blocks of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mamba_slm.export.onnx.graph import CONTRIB, GraphWriter
from mamba_slm.export.onnx.plan import WeightPlan
from mamba_slm.export.onnx.quantize import QuantizedMatrix, quantize_matrix

ACCURACY_LEVEL = 4
"""MatMulNBits multiplies in int8: with the default level, 8-bit weights are many times slower than float32."""


class MatrixStore(Protocol):
    """Stores matrices [o i] and multiplies by them."""

    writer: GraphWriter

    def multiply(self, x: str, *tensors: str, output: str = "") -> str:
        """x [... i] times the transpose of the matrices, under each other."""
        ...

    def rows_of(self, tensor: str, indices: str) -> str:
        """Rows of a matrix: [b L] to [b L i]."""
        ...


class PackedMatrices:
    """Stacking and quantizing, each matrix once."""

    def __init__(
        self,
        writer: GraphWriter,
        tensors: Mapping[str, NDArray[np.float32]],
        plan: WeightPlan,
    ):
        self.writer = writer
        self.tensors = tensors
        self.plan = plan
        self.quantized: dict[tuple[str, ...], QuantizedMatrix] = {}

    def stacked(self, tensors: tuple[str, ...]) -> tuple[str, NDArray[np.float32]]:
        """The matrices under each other, and the name that they get together."""
        arrays = [self.tensors[name] for name in tensors]
        return "+".join(tensors), arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

    def pack(self, tensors: tuple[str, ...]) -> tuple[str, QuantizedMatrix]:
        """Quantize once, whoever asks."""
        name, matrix = self.stacked(tensors)
        if tensors not in self.quantized:
            self.quantized[tensors] = quantize_matrix(
                matrix, bits=self.plan.bits_of(tensors[0]), block_size=self.plan.block_size_of(tensors[0])
            )
        return name, self.quantized[tensors]


class FusedMatrices(PackedMatrices):
    """Matrices for ONNX Runtime: FusedMatMul, or MatMulNBits and GatherBlockQuantized. A tied head is stored once."""

    def multiply(self, x: str, *tensors: str, output: str = "") -> str:
        """One node."""
        if self.plan.bits_of(tensors[0]) == 32:
            name, matrix = self.stacked(tensors)
            stored = self.writer.initializer(name, matrix)
            return self.writer.op("FusedMatMul", x, stored, domain=CONTRIB, transB=1, output=output)
        name, packed = self.pack(tensors)
        outputs, inputs = packed.shape
        return self.writer.op(
            "MatMulNBits",
            x,
            self.writer.initializer(f"{name}.values", packed.values),
            self.writer.initializer(f"{name}.scales", packed.scales),
            domain=CONTRIB,
            output=output,
            N=outputs,
            K=inputs,
            bits=packed.bits,
            block_size=packed.block_size,
            accuracy_level=ACCURACY_LEVEL,
        )

    def rows_of(self, tensor: str, indices: str) -> str:
        """Gather, or gather and unpack."""
        if self.plan.bits_of(tensor) == 32:
            return self.writer.op("Gather", self.writer.initializer(tensor, self.tensors[tensor]), indices)
        name, packed = self.pack((tensor,))
        values = self.writer.initializer(f"{name}.values", packed.values)
        rows = self.writer.op("Reshape", values, self.writer.ints([packed.shape[0], -1]))
        return self.writer.op(
            "GatherBlockQuantized",
            rows,
            indices,
            self.writer.initializer(f"{name}.scales", packed.scales),
            domain=CONTRIB,
            bits=packed.bits,
            block_size=packed.block_size,
            gather_axis=0,
            quantize_axis=1,
        )


class StandardMatrices(PackedMatrices):
    """Matrices in standard operators: MatMul, behind DequantizeLinear over blocks where they are quantized.

    Matrices are stored as [i o], which ONNX Runtime turns into MatMulNBits. A tied head is stored once.
    """

    def multiply(self, x: str, *tensors: str, output: str = "") -> str:
        """One product; of a matrix that was stored for looking rows up, its transpose."""
        name, matrix = self.stacked(tensors)
        if self.plan.bits_of(tensors[0]) < 32:
            return self.writer.op("MatMul", x, self.dequantized(tensors, *self.store(tensors)), output=output)
        if name in self.writer.initializers:
            return self.writer.op("MatMul", x, self.writer.op("Transpose", name, perm=[1, 0]), output=output)
        return self.writer.op("MatMul", x, self.writer.initializer(f"{name}.transposed", matrix.T), output=output)

    def rows_of(self, tensor: str, indices: str) -> str:
        """Rows, which are columns where the matrix is quantized."""
        if self.plan.bits_of(tensor) == 32:
            return self.writer.op("Gather", self.writer.initializer(tensor, self.tensors[tensor]), indices)
        values, scales = (self.writer.op("Gather", each, indices, axis=1) for each in self.store((tensor,)))
        return self.writer.op("Transpose", self.dequantized((tensor,), values, scales), perm=[1, 2, 0])

    def store(self, tensors: tuple[str, ...]) -> tuple[str, str]:
        """Names of the whole numbers [i o] and the scales [k o]."""
        name, packed = self.pack(tensors)
        if packed.bits == 8:
            values = self.writer.initializer(f"{name}.values", packed.numbers().T)
        else:
            values = self.writer.four_bits(f"{name}.values", packed.numbers().T)
        return values, self.writer.initializer(f"{name}.scales", packed.scales.T)

    def dequantized(self, tensors: tuple[str, ...], values: str, scales: str) -> str:
        """float32 of the values' shape."""
        block_size = self.pack(tensors)[1].block_size
        return self.writer.op("DequantizeLinear", values, scales, axis=0, block_size=block_size)
