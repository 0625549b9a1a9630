"""What the machine can do with this model's sizes: the rate of its matrix products, and of reading memory.

Both are measured in every round beside the contenders, with the same threads, so that a slow moment counts on both
sides.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F

from mamba_slm.evaluation.bench.cells import Cell, read_weight_bytes
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.pattern import ATTENTION, MAMBA
from mamba_slm.training.precision import DTYPES

HEAD_PIECE_TOKENS = 1024  # the products of the head are taken in pieces, or their result alone would fill the memory
READ_PASSES = 10


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


class MatrixProducts:
    """All matrix products of a forward pass (train: and of the backward pass) and nothing else, on weights of its own.

    The head counts for every token in training, as in the model, and is left out in prefill, where it is one row.
    """

    unit = "FLOP/s"

    def __init__(self, config: ModelConfig, cell: Cell):
        dtype = DTYPES[cell.precision]
        self.backward = cell.task == "train"
        self.products: list[tuple[torch.Tensor, torch.Tensor]] = []
        inputs = {
            size: torch.randn(cell.tokens, size).to(dtype)
            for size in {shape[1] for shape in projection_shapes(config)} | {config.hidden_size}
        }
        for outputs, size in projection_shapes(config):
            self.products.append((torch.randn(outputs, size).to(dtype), inputs[size]))
        if self.backward:
            head = torch.randn(config.vocab_size, config.hidden_size).to(dtype)
            piece = inputs[config.hidden_size][:HEAD_PIECE_TOKENS]
            self.products += [(head, piece)] * (cell.tokens // len(piece))
        flops = sum(2 * weight.numel() * len(x) for weight, x in self.products)
        self.flops = (3 if self.backward else 1) * flops

    @torch.no_grad()
    def rate(self) -> float:
        """FLOP/s of one pass over all products."""
        start = time.perf_counter()
        for weight, x in self.products:
            y = F.linear(x, weight)
            if self.backward:
                torch.mm(y, weight)
                torch.mm(y.t(), x)
        return self.flops / (time.perf_counter() - start)


class Reading:
    """Reading a buffer as large as the weights, by reductions over all of it: the best pass of the fastest reduction.

    Matrix-vector products would be closer to what decoding does, and are slower than memory on many CPUs: a share of
    their rate would flatter.
    """

    unit = "bytes/s"

    def __init__(self, config: ModelConfig, cell: Cell):
        self.buffer = torch.ones(read_weight_bytes(config, cell.precision) // 4)
        self.num_bytes = 4 * self.buffer.numel()

    @torch.no_grad()
    def rate(self) -> float:
        """Bytes per second."""
        best = float("inf")
        for reduction in (torch.sum, torch.linalg.vector_norm):
            for _ in range(READ_PASSES):
                start = time.perf_counter()
                reduction(self.buffer)
                best = min(best, time.perf_counter() - start)
        return self.num_bytes / best


def machine_rate(config: ModelConfig, cell: Cell) -> MatrixProducts | Reading:
    """What the cell's speed is a share of."""
    return Reading(config, cell) if cell.task == "decode" else MatrixProducts(config, cell)
