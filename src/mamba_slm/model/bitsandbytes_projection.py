"""Matrices of nf4 and fp4 multiplied by bitsandbytes, on GPUs.

Its kernels want a multiple of 32 outputs, and some in_proj have others (10,576 of 2.7B). Rows of zeros fill them up in
here, once a model is loaded, and their results are cut off; no file holds them.

Letters: o outputs, i inputs.
"""

from __future__ import annotations

import importlib.util

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mamba_slm.core.optional import require
from mamba_slm.ops.lowbit.blocks import QuantizedBlocks, blocks_of_codes, nearest_codes
from mamba_slm.ops.lowbit.layouts import to_bitsandbytes
from mamba_slm.ops.lowbit.scheme import Scheme

OUTPUT_MULTIPLE = 32
LEAST_BLOCK = 32
"""bitsandbytes has blocks of 32 and more."""


def unsupported(scheme: Scheme, device: str | torch.device) -> str | None:
    """Why bitsandbytes does not multiply by matrices of this scheme there, or None."""
    if torch.device(device).type != "cuda":
        return "bitsandbytes multiplies on GPUs"
    if not scheme.is_table or 0 < scheme.block_size < LEAST_BLOCK:
        return f"bitsandbytes multiplies by nf4 and fp4 in blocks of {LEAST_BLOCK} and more, not by {scheme}"
    if scheme.block_size == 0:
        return "bitsandbytes has no blocks of a whole row"
    if importlib.util.find_spec("bitsandbytes") is None:
        return "bitsandbytes is not installed (pip install 'mamba-slm[bnb]')"
    return None


class BitsAndBytesProjection(nn.Module):
    """In place of a `Projection`. `weight` says shape and dtype of products; its values are NaN."""

    def __init__(self, blocks: QuantizedBlocks, dtype: torch.dtype, device: str | torch.device):
        """Raises MissingDependencyError without bitsandbytes."""
        super().__init__()
        library = require("bitsandbytes", extra="bnb", purpose="multiplying by nf4 and fp4 on a GPU")
        self.num_outputs, num_inputs = blocks.shape
        padded = with_rows_of(blocks, OUTPUT_MULTIPLE)
        tensors = to_bitsandbytes(padded)
        weight = library.nn.Params4bit.from_prequantized(tensors.pop(""), tensors, device=device)
        with torch.device("meta"):
            layer = library.nn.Linear4bit(
                num_inputs, padded.shape[0], bias=False, compute_dtype=dtype, quant_type=blocks.scheme.format
            )
        layer.weight = weight
        self.layer = layer.eval()
        self.weight = torch.full((1,), torch.nan, dtype=dtype, device=device).expand(self.num_outputs, num_inputs)

    def forward(self, input: Tensor) -> Tensor:
        """[... i] to [... o]."""
        return self.layer(input)[..., : self.num_outputs]


def with_rows_of(blocks: QuantizedBlocks, multiple: int) -> QuantizedBlocks:
    """The same matrix with rows of zeros behind it, up to a multiple; scales in float32, as a kernel reads them."""
    rows = -blocks.shape[0] % multiple
    scheme = Scheme(format=blocks.scheme.format, block_size=blocks.scheme.block_size)
    zero = int(nearest_codes(torch.zeros(1, 8), torch.ones(1, 1), None, scheme)[0, 0])
    codes = F.pad(blocks.codes, (0, 0, 0, rows), value=zero)
    return blocks_of_codes(codes, F.pad(blocks.scales.float(), (0, 0, 0, rows)), None, scheme)
