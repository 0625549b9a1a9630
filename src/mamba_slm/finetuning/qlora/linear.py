"""A frozen matrix of 4 bits with gradients through it: bitsandbytes' `Linear4bit`, which peft knows how to adapt.

Import it inside functions: it needs bitsandbytes.

Letters: o outputs, i inputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mamba_slm.core.optional import require
from mamba_slm.model.bitsandbytes_projection import OUTPUT_MULTIPLE, with_rows_of
from mamba_slm.ops.lowbit.blocks import QuantizedBlocks
from mamba_slm.ops.lowbit.layouts import to_bitsandbytes
from mamba_slm.training.adamw8bit import quiet

with quiet("bitsandbytes.backends.cpu.ops"):
    bitsandbytes: Any = require("bitsandbytes", extra="bnb", purpose="a base in 4 bits (--method qlora)")


class FourBitProjection(bitsandbytes.nn.Linear4bit):
    """In place of a `Projection`; forward and backward pass unpack the matrix to `dtype`, one at a time.

    Kernels of bitsandbytes on GPUs want a multiple of 32 outputs: rows of zeros fill them up in here, and their results
    are cut off. Its packed kernel for inference on CPUs stays off: it rounds inputs to bfloat16, so that a model would
    compute one thing in training and another in evaluation.
    """

    def __init__(
        self, blocks: QuantizedBlocks, dtype: torch.dtype, device: str | torch.device, *, pad: bool | None = None
    ):
        """Take over codes and scales as they are.

        Args:
            blocks: nf4 or fp4 in blocks of 32 and more.
            dtype: of products.
            pad: fill rows up; None: on GPUs, whose kernels want it.
        """
        outputs, inputs = blocks.shape
        pad = torch.device(device).type != "cpu" if pad is None else pad
        padded = with_rows_of(blocks, OUTPUT_MULTIPLE) if pad and outputs % OUTPUT_MULTIPLE else blocks
        scheme = padded.scheme
        with torch.device("meta"):
            super().__init__(
                inputs,
                padded.shape[0],
                bias=False,
                compute_dtype=dtype,
                compress_statistics=scheme.double,
                quant_type=scheme.format,
            )
        tensors = to_bitsandbytes(padded)
        packed = tensors.pop("")
        self.weight = bitsandbytes.nn.Params4bit.from_prequantized(packed, tensors, device=device, module=self)
        self.weight.quant_state.dtype = dtype  # what it is unpacked to, and what `product_dtype` reads
        self.out_features = outputs
        self.is_padded = padded is not blocks
        self.support_avx512bf16_for_cpu = False

    def forward(self, input: Tensor) -> Tensor:
        """[... i] to [... o]."""
        product = super().forward(input)
        return product[..., : self.out_features] if self.is_padded else product

    def dequantized(self) -> Tensor:
        """The matrix [o i] that products see, float32."""
        weight = self.weight
        values = bitsandbytes.functional.dequantize_4bit(weight.data, weight.quant_state)
        return values[: self.out_features].float()
