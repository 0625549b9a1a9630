"""The matrices of the model in a graph: float32, or blocks of 8 or 4 bits with one scale each.

Letters: o outputs, i inputs, k blocks of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mamba_slm.core.errors import ConfigError
from mamba_slm.export.onnx.graph import CONTRIB, GraphWriter
from mamba_slm.export.onnx.plan import WeightPlan
from mamba_slm.export.onnx.quantize import QuantizedMatrix, quantize_matrix
from mamba_slm.export.onnx.stored import TableMatrix, likeness, matrix_of

ACCURACY_LEVEL = 4
"""MatMulNBits multiplies in int8: with the default level, 8-bit weights are many times slower than float32."""
TABLE_NUMBERS = {"fp4": 0, "nf4": 1}
"""`quant_type` of MatMulBnb4."""
LOOKED_UP = "embedding.weight"
"""The matrix whose rows are taken, not only multiplied by."""


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
        self.quantized: dict[tuple[str, ...], QuantizedMatrix | TableMatrix] = {}

    def multiply(self, x: str, *tensors: str, output: str = "") -> str:
        """One product for all, or one for each run of matrices that can be stored as one, and their results joined."""
        runs = [tuple(run) for _, run in groupby(tensors, self.likeness_of)]
        if len(runs) == 1:
            return self.multiply_one(x, tensors, output)
        return self.writer.op("Concat", *(self.multiply_one(x, run, "") for run in runs), axis=-1, output=output)

    def multiply_one(self, x: str, tensors: tuple[str, ...], output: str) -> str:
        """x times the transpose of matrices that are stored as one."""
        raise NotImplementedError

    def likeness_of(self, tensor: str) -> object:
        """Equal for matrices that can be stored as one."""
        return likeness(self.plan.stored[tensor]) if tensor in self.plan.stored else None

    def stacked(self, tensors: tuple[str, ...]) -> tuple[str, NDArray[np.float32]]:
        """The matrices under each other, and the name that they get together."""
        arrays = [self.tensors[name] for name in tensors]
        return "+".join(tensors), arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

    def pack(self, tensors: tuple[str, ...]) -> tuple[str, QuantizedMatrix | TableMatrix]:
        """The matrices as stored, or quantized once, whoever asks."""
        if tensors not in self.quantized:
            self.quantized[tensors] = self.numbers_of(tensors)
        return "+".join(tensors), self.quantized[tensors]

    def numbers_of(self, tensors: tuple[str, ...]) -> QuantizedMatrix | TableMatrix:
        """The matrices under each other in few bits."""
        if tensors[0] in self.plan.stored:
            return matrix_of([self.plan.stored[tensor] for tensor in tensors])
        bits, block_size = self.plan.bits_of(tensors[0]), self.plan.block_size_of(tensors[0])
        return quantize_matrix(self.stacked(tensors)[1], bits=bits, block_size=block_size)


class FusedMatrices(PackedMatrices):
    """Matrices for ONNX Runtime: FusedMatMul, or MatMulNBits and GatherBlockQuantized. A tied head is stored once."""

    def multiply_one(self, x: str, tensors: tuple[str, ...], output: str) -> str:
        """One node."""
        if self.plan.bits_of(tensors[0]) == 32:
            name, matrix = self.stacked(tensors)
            stored = self.writer.initializer(name, matrix)
            return self.writer.op("FusedMatMul", x, stored, domain=CONTRIB, transB=1, output=output)
        name, packed = self.pack(tensors)
        values, scales, *zero_points = self.store(name, packed)
        sizes = {"N": packed.shape[0], "K": packed.shape[1], "block_size": packed.block_size}
        if isinstance(packed, TableMatrix):
            kind = TABLE_NUMBERS[packed.format]
            return self.writer.op(
                "MatMulBnb4", x, values, scales, domain=CONTRIB, output=output, quant_type=kind, **sizes
            )
        return self.writer.op(
            "MatMulNBits",
            *(x, values, scales, *zero_points),
            domain=CONTRIB,
            output=output,
            bits=packed.bits,
            accuracy_level=ACCURACY_LEVEL,
            **sizes,
        )

    def store(self, name: str, packed: QuantizedMatrix | TableMatrix) -> list[str]:
        """Names of the values, the scales and, where there are any, the zero points."""
        flat = isinstance(packed, TableMatrix)
        stored = [
            self.writer.initializer(f"{name}.values", packed.values),
            self.writer.initializer(f"{name}.scales", packed.scales.ravel() if flat else packed.scales),
        ]
        if isinstance(packed, QuantizedMatrix) and (zero_points := packed.packed_zero_points()) is not None:
            stored.append(self.writer.initializer(f"{name}.zero_points", zero_points))
        return stored

    def rows_of(self, tensor: str, indices: str) -> str:
        """Gather, or gather and unpack."""
        if self.plan.bits_of(tensor) == 32:
            return self.writer.op("Gather", self.writer.initializer(tensor, self.tensors[tensor]), indices)
        name, packed = self.pack((tensor,))
        values, scales, *zero_points = self.store(name, packed)
        rows = self.writer.op("Reshape", values, self.writer.ints([packed.shape[0], -1]))
        if isinstance(packed, TableMatrix):
            return self.rows_of_table(packed, rows, scales, indices)
        return self.writer.op(
            "GatherBlockQuantized",
            *(rows, indices, scales, *zero_points),
            domain=CONTRIB,
            bits=packed.bits,
            block_size=packed.block_size,
            gather_axis=0,
            quantize_axis=1,
        )

    def rows_of_table(self, packed: TableMatrix, rows: str, scales: str, indices: str) -> str:
        """Rows of bytes [o i/2] to the values of the table times their scales, in standard operators."""
        op, ints = self.writer.op, self.writer.ints
        outputs, inputs = packed.shape
        found = op("Gather", rows, indices)
        four, low = (self.writer.constant(np.array(number, dtype=np.uint8)) for number in (4, 15))
        halves = (op("BitShift", found, four, direction="RIGHT"), op("BitwiseAnd", found, low))
        numbers = op("Concat", *(op("Unsqueeze", half, ints([3])) for half in halves), axis=3)  # [b L i/2 2]
        blocks = op("Reshape", numbers, ints([0, 0, packed.scales.shape[1], packed.block_size]))
        table = self.writer.constant(packed.table)
        entries = op("Gather", table, op("Cast", blocks, to=self.writer.onnx.TensorProto.INT32))
        of_rows = op("Gather", op("Reshape", scales, ints([outputs, -1, 1])), indices)  # [b L k 1]
        return op("Reshape", op("Mul", entries, of_rows), ints([0, 0, inputs]))


class StandardMatrices(PackedMatrices):
    """Matrices in standard operators: MatMul, behind DequantizeLinear over blocks where they are quantized.

    Matrices are stored as [i o], which ONNX Runtime turns into MatMulNBits. A tied head is stored once.
    """

    def multiply_one(self, x: str, tensors: tuple[str, ...], output: str) -> str:
        """One product; of a matrix that was stored for looking rows up, its transpose."""
        if self.plan.bits_of(tensors[0]) < 32:
            return self.writer.op("MatMul", x, self.dequantized(tensors, self.store(tensors)), output=output)
        name, matrix = self.stacked(tensors)
        if name in self.writer.initializers:
            return self.writer.op("MatMul", x, self.writer.op("Transpose", name, perm=[1, 0]), output=output)
        return self.writer.op("MatMul", x, self.writer.initializer(f"{name}.transposed", matrix.T), output=output)

    def rows_of(self, tensor: str, indices: str) -> str:
        """Rows, which are columns where the matrix is quantized."""
        if self.plan.bits_of(tensor) == 32:
            return self.writer.op("Gather", self.writer.initializer(tensor, self.tensors[tensor]), indices)
        parts = [self.writer.op("Gather", each, indices, axis=1) for each in self.store((tensor,))]
        return self.writer.op("Transpose", self.dequantized((tensor,), parts), perm=[1, 2, 0])

    def whole_numbers(self, tensors: tuple[str, ...]) -> tuple[str, QuantizedMatrix]:
        """`pack` where there are no tables, for which the standard has no operator."""
        name, packed = self.pack(tensors)
        if isinstance(packed, TableMatrix):
            raise ConfigError(
                f"the portable form cannot hold {packed.format}, of {tensors[0]}",
                hint="--form fused can; or --weights int4 rounds the matrices again",
            )
        return name, packed

    def store(self, tensors: tuple[str, ...]) -> list[str]:
        """Names of the whole numbers [i o], the scales [k o] and, where there are any, the zero points [k o].

        Numbers of 4 bits that are looked up take 8: the standard has no Gather of smaller ones.
        """
        name, packed = self.whole_numbers(tensors)
        takes_eight = packed.bits == 8 or tensors == (LOOKED_UP,)
        keep = self.writer.initializer if takes_eight else self.writer.four_bits
        numbers = packed.numbers() if packed.zero_points is None else packed.codes()
        stored = [keep(f"{name}.values", numbers.T), self.writer.initializer(f"{name}.scales", packed.scales.T)]
        return stored if packed.zero_points is None else [*stored, keep(f"{name}.zero_points", packed.zero_points.T)]

    def dequantized(self, tensors: tuple[str, ...], parts: list[str]) -> str:
        """float32 of the values' shape."""
        block_size = self.whole_numbers(tensors)[1].block_size
        return self.writer.op("DequantizeLinear", *parts, axis=0, block_size=block_size)
