"""A model whose matrices are packed into 8 or 4 bits, for inference: the same sublayers, other projections.

SSM parameters, convolution, norms and states stay float32, whatever the matrices become.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mamba_slm.core.errors import UnknownNameError
from mamba_slm.core.processor import has_instructions
from mamba_slm.model.huge_pages import can_be_huge, huge_copies
from mamba_slm.model.projection import Projection
from mamba_slm.model.stack import Backbone, LanguageModel
from mamba_slm.ops.lowbit.linear import packed_linear
from mamba_slm.ops.lowbit.packed import Bits, PackedWeight, unpack_rows
from mamba_slm.ops.lowbit.rounding import round_weight

BLOCK_SIZES = (32, 16, 8)
"""The first that divides a row is taken; rows of other lengths stay as they are."""


@dataclass(frozen=True)
class PackedBits:
    """How many bits each matrix gets, with a float16 scale per block of 32: 8.5 and 4.5 bits per weight."""

    usual: Bits
    exceptions: Mapping[str, Bits] = field(default_factory=dict)
    """By name: of a projection, `embedding`, or `head`; a tied head is the embedding."""

    def of(self, name: str) -> Bits:
        """Bits of a matrix."""
        return self.exceptions.get(name, self.usual)


PACKED_BITS = {
    "int8": PackedBits(8),
    "int4": PackedBits(4),
    "mixed": PackedBits(4, {"in_proj": 8, "embedding": 8, "head": 8}),
}
"""By name. `mixed` leaves 8 bits where 4 cost a hybrid most (../shared/reference/inference.md, 6.2)."""


def stand_in(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor that has a shape, a dtype and a device, no memory, and no values but NaN."""
    return torch.full((1,), torch.nan, dtype=dtype, device=device).expand(shape)


class PackedProjection(nn.Module):
    """In place of a `Projection`. `weight` says shape and dtype of products; its values are NaN."""

    def __init__(self, packed: PackedWeight, dtype: torch.dtype):
        super().__init__()
        self.packed = packed
        self.weight = stand_in((packed.num_outputs, packed.num_inputs), dtype, packed.words.device)

    def forward(self, input: Tensor) -> Tensor:
        """[... i] to [... o]."""
        return packed_linear(input, self.packed)


class PackedEmbedding(nn.Module):
    """In place of an `nn.Embedding`."""

    def __init__(self, packed: PackedWeight, dtype: torch.dtype):
        super().__init__()
        self.packed = packed
        self.weight = stand_in((packed.num_outputs, packed.num_inputs), dtype, packed.words.device)

    def forward(self, tokens: Tensor) -> Tensor:
        """[...] int64 to [... d] float32."""
        return unpack_rows(self.packed, tokens.flatten()).view(*tokens.shape, -1)


class PackedModel(LanguageModel):
    """A `LanguageModel` with packed matrices; it has no gradients and no state dict to save."""

    def __init__(self, model: LanguageModel, bits: PackedBits, *, dtype: torch.dtype | None = None):
        """Round and pack the matrices of `model`, which is used up: its sublayers are this model's afterwards.

        Args:
            dtype: of activations between many-row products, keys, values and windows; None: bfloat16 where the
                processor multiplies it in hardware, else float32.
        """
        super(Backbone, self).__init__()
        self.config = self.architecture = model.config
        self.gradient_checkpointing = False
        dtype = dtype or fast_dtype()
        embedding = round_or_none(model.embedding.weight, bits.of("embedding"))
        head = embedding if model.lm_head is None else round_or_none(model.lm_head.weight, bits.of("head"))
        self.embedding = PackedEmbedding(embedding, dtype) if embedding else model.embedding.to(dtype)  # type: ignore[assignment]
        self.lm_head = PackedProjection(head, dtype) if head else model.lm_head and model.lm_head.to(dtype)  # type: ignore[assignment]
        self.position_embedding = model.position_embedding
        self.final_norm = model.final_norm
        self.sublayers = model.sublayers
        for module in [part for part in self.sublayers.modules() if not isinstance(part, Projection)]:
            for name, child in list(module.named_children()):
                if isinstance(child, Projection):
                    packed = round_or_none(child.weight, bits.of(name))
                    setattr(module, name, PackedProjection(packed, dtype) if packed else child.to(dtype))
        self.eval().requires_grad_(False)
        self._move_to_huge_pages()

    def logits(self, hidden: Tensor) -> Tensor:
        """See `LanguageModel.logits`."""
        if self.lm_head is None:
            return super().logits(hidden)
        return self.lm_head(hidden.to(self.lm_head.weight.dtype)).float()

    def _move_to_huge_pages(self) -> None:
        """All packed matrices, in the order of their use, where the system has such pages."""
        weights = self.packed_weights()
        if not can_be_huge(weight.words for weight in weights):
            return
        places = iter(huge_copies([tensor for weight in weights for tensor in weight.tensors]))
        moved = {id(weight): weight.with_tensors(places) for weight in weights}
        for part in self.modules():
            if isinstance(part, PackedProjection | PackedEmbedding):
                part.packed = moved[id(part.packed)]

    def packed_weights(self) -> list[PackedWeight]:
        """Each packed matrix once."""
        found = [part.packed for part in self.modules() if isinstance(part, PackedProjection | PackedEmbedding)]
        return list({id(packed): packed for packed in found}.values())

    @property
    def num_bytes(self) -> int:
        """Memory of all weights."""
        return sum(packed.num_bytes for packed in self.packed_weights()) + sum(p.nbytes for p in self.parameters())


def round_or_none(weight: Tensor, bits: Bits) -> PackedWeight | None:
    """Rounded in blocks; None where no block fits into a row."""
    block = next((size for size in BLOCK_SIZES if weight.shape[1] % size == 0), None)
    return None if block is None else round_weight(weight.detach(), bits=bits, block_size=block)


def packed_bits(name: str) -> PackedBits:
    """By name, from `PACKED_BITS`.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in PACKED_BITS:
        raise UnknownNameError("kind of weights", name, PACKED_BITS)
    return PACKED_BITS[name]


def fast_dtype() -> torch.dtype:
    """bfloat16 where this CPU multiplies it in hardware, else float32."""
    return torch.bfloat16 if has_instructions("avx512_bf16") or has_instructions("amx_bf16") else torch.float32
