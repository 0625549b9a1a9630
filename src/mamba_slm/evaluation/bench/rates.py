"""What the machine can do with this model's sizes: the rates of its matrix products, and of reading memory.

Both are measured in every round beside the contenders, with the same threads, so that a slow moment counts on both
sides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from mamba_slm.evaluation.bench.cells import Cell
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.huge_pages import huge_block
from mamba_slm.model.pattern import ATTENTION, MAMBA
from mamba_slm.ops.linear import linear
from mamba_slm.training.precision import DTYPES

HEAD_PIECE_TOKENS = 1024  # the products of the head are taken in pieces, or their result alone would fill the memory
MOST_ROWS = 2048  # more rows are no faster
READ_PASSES = 6
INT8_PRODUCT = "_int_mm"  # private: where it is absent there is no such rate


def projection_shapes(config: ModelConfig) -> Iterator[tuple[int, int]]:
    """(outputs, inputs) of every matrix of the sublayers, in their order."""
    c = config
    kv_size = c.num_kv_heads * c.head_dim
    for kind in c.pattern:
        if kind == MAMBA:
            yield from ((c.in_proj_size, c.hidden_size), (c.hidden_size, c.inner_size))
        elif kind == ATTENTION:
            yield from ((c.hidden_size, c.hidden_size), (kv_size, c.hidden_size), (kv_size, c.hidden_size))
            yield (c.hidden_size, c.hidden_size)
        else:
            yield from ((2 * c.feed_forward_size, c.hidden_size), (c.hidden_size, c.feed_forward_size))


def product_of(kind: str) -> Callable[[Tensor, Tensor], Tensor]:
    """x [t i] times weight [o i] transposed, by the fastest way known here."""
    if kind == "int8":
        multiply = getattr(torch, INT8_PRODUCT)
        return lambda x, weight: multiply(x, weight.t())
    return linear if kind == "fp32" else F.linear


def random_matrix(kind: str, *shape: int) -> Tensor:
    """Values that a product of this kind takes."""
    if kind == "int8":
        return torch.randint(-100, 100, shape, dtype=torch.int8)
    return torch.randn(*shape).to(DTYPES[kind])


def has_products(kind: str) -> bool:
    """Whether PyTorch multiplies such matrices here; 8-bit ones are a private function of it."""
    return kind != "int8" or hasattr(torch, INT8_PRODUCT)


class MatrixProducts:
    """All matrix products of a forward pass (train: and of the backward pass) and nothing else, on weights of its own.

    The head counts for every token in training, as in the model, and is left out in prefill, where it is one row.
    """

    unit = "FLOP/s"

    def __init__(self, config: ModelConfig, cell: Cell, kind: str):
        self.backward = cell.task == "train"
        self.product = product_of(kind)
        self.products: list[tuple[Tensor, Tensor]] = []
        rows = min(cell.tokens, MOST_ROWS)
        inputs = {
            size: random_matrix(kind, rows, size)
            for size in {shape[1] for shape in projection_shapes(config)} | {config.hidden_size}
        }
        for outputs, size in projection_shapes(config):
            self.products.append((random_matrix(kind, outputs, size), inputs[size]))
        if self.backward:
            head = random_matrix(kind, config.vocab_size, config.hidden_size)
            piece = inputs[config.hidden_size][:HEAD_PIECE_TOKENS]
            self.products += [(head, piece)] * (rows // len(piece))
        flops = sum(2 * weight.numel() * len(x) for weight, x in self.products)
        self.flops = (3 if self.backward else 1) * flops

    @torch.no_grad()
    def rate(self) -> float:
        """FLOP/s of one pass over all products."""
        start = time.perf_counter()
        for weight, x in self.products:
            y = self.product(x, weight)
            if self.backward:
                torch.mm(y, weight)
                torch.mm(y.t(), x)
        return self.flops / (time.perf_counter() - start)


class Reading:
    """Reading so many bytes again and again, by reductions over all of them: the best pass of the fastest reduction.

    A buffer that fits into a cache is read from there, as weights of that size are. Matrix-vector products would be
    closer to what decoding does, and are slower than memory on many CPUs: a share of their rate would flatter.
    """

    unit = "bytes/s"

    def __init__(self, sizes: Iterable[int], *, huge_pages: bool = True):
        self.sizes = sorted({max(size // 64 * 64, 64) for size in sizes})
        largest = self.sizes[-1]
        block = huge_block(largest) if huge_pages else torch.empty(largest, dtype=torch.uint8)
        self.block = block.fill_(0)

    @torch.no_grad()
    def rate(self, size: int) -> float:
        """Bytes per second, for one of `sizes`."""
        num_bytes = max(size // 64 * 64, 64)
        best = float("inf")
        for reduce, dtype in ((torch.sum, torch.float32), (torch.sum, torch.float64), (torch.amax, torch.int8)):
            values = self.block[:num_bytes].view(dtype)
            for _ in range(READ_PASSES):
                start = time.perf_counter()
                reduce(values)
                best = min(best, time.perf_counter() - start)
        return num_bytes / best


class MachineRates:
    """What the speeds of a cell are shares of: one rate per kind of product, or per number of bytes."""

    def __init__(self, config: ModelConfig, cell: Cell, measures: Iterable[str]):
        """`measures` are "fp32", "bf16" and "int8" for products, or numbers of bytes for decoding."""
        self.measures = list(dict.fromkeys(measures))
        self.reading: Reading | None = None
        self.products: dict[str, MatrixProducts] = {}
        if cell.task == "decode":
            self.reading = Reading(map(int, self.measures))
        else:
            self.products = {kind: MatrixProducts(config, cell, kind) for kind in self.measures if has_products(kind)}

    @property
    def unit(self) -> str:
        """Of all rates."""
        return MatrixProducts.unit if self.reading is None else Reading.unit

    def rates(self) -> dict[str, float]:
        """One measurement of each."""
        if self.reading is not None:
            return {size: self.reading.rate(int(size)) for size in self.measures}
        return {kind: products.rate() for kind, products in self.products.items()}
