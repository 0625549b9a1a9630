"""A model whose matrices are packed into 8 or 4 bits, for inference: the same sublayers, other projections.

SSM parameters, convolution, norms and states stay float32, whatever the matrices become.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mamba_slm.core.allocator import give_back_freed_memory
from mamba_slm.core.errors import ConfigError
from mamba_slm.core.processor import has_instructions
from mamba_slm.model.bitsandbytes_projection import BitsAndBytesProjection, unsupported
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.huge_pages import can_be_huge, huge_copies
from mamba_slm.model.matrices import EMBEDDING, matrix_names
from mamba_slm.model.projection import Projection
from mamba_slm.model.quantization import Quantization
from mamba_slm.model.stack import LanguageModel, LossSum
from mamba_slm.ops.loss import DEFAULT_LOSS_CHUNK_TOKENS, IGNORE_INDEX
from mamba_slm.ops.lowbit.blocks import QuantizedBlocks, dequantize, quantize_nearest
from mamba_slm.ops.lowbit.linear import packed_linear
from mamba_slm.ops.lowbit.packed import PackedWeight, pack_blocks, unpack_rows
from mamba_slm.ops.lowbit.scheme import Scheme

Matrix = QuantizedBlocks | Tensor
"""Codes and scales, or [o i] floating point where a matrix is not quantized."""


class NearestMatrices(Mapping[str, Matrix]):
    """The matrices of a model, rounded to the nearest when they are looked up; nothing is kept."""

    def __init__(self, weights: Mapping[str, Tensor], schemes: Mapping[str, Scheme | None]):
        """`weights` by the names of a state dict, `schemes` by those of `matrix_names`."""
        self.weights, self.schemes = weights, schemes

    def __iter__(self) -> Iterator[str]:
        return iter(self.schemes)

    def __len__(self) -> int:
        return len(self.schemes)

    def __getitem__(self, name: str) -> Matrix:
        weight, scheme = self.weights[f"{name}.weight"], self.schemes[name]
        return weight if scheme is None else quantize_nearest(weight, scheme)


def nearest(model: LanguageModel, plan: Quantization) -> NearestMatrices:
    """The matrices of a model, rounded to the nearest as a plan says."""
    return NearestMatrices(model.state_dict(), plan.fitted_to(model.config))


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
    """A `LanguageModel` with packed matrices; it has no gradients and no state dict to save.

    `nearest_model` makes one of a model in floating point, `model.quantized.load_quantized` of a quantized folder.
    """

    def __init__(
        self,
        model: LanguageModel,
        matrices: Mapping[str, Matrix],
        *,
        dtype: torch.dtype | None = None,
        device: str | torch.device = "cpu",
    ):
        """Pack matrices, and share everything else with `model`, whose own matrices may be on the device meta.

        Args:
            matrices: by the names of `matrix_names`; each is looked up once.
            dtype: of activations between many-row products, keys, values, windows and unquantized matrices; None:
                bfloat16 where the processor multiplies it in hardware, else float32.
        """
        with torch.device("meta"):
            super().__init__(model.config)
        dtype = dtype or fast_dtype()
        names = matrix_names(model.config)
        weights = {f"{name}.weight" for name in names}
        others = {name: tensor.to(device) for name, tensor in model.state_dict().items() if name not in weights}
        self.load_state_dict(others, assign=True, strict=False)
        for name in names:
            matrix = matrices[name].to(device)
            owner, _, attribute = name.rpartition(".")
            setattr(self.get_submodule(owner), attribute, packed_module(name, matrix, dtype, torch.device(device)))
        if self.lm_head is None and isinstance(self.embedding, PackedEmbedding):
            self.lm_head = PackedProjection(self.embedding.packed, dtype)  # type: ignore[assignment]
        assert not any(parameter.is_meta for parameter in self.parameters())
        self.eval().requires_grad_(False)
        self._move_to_huge_pages()
        give_back_freed_memory()  # holes between matrices, half as much as these

    def logits(self, hidden: Tensor) -> Tensor:
        """See `LanguageModel.logits`."""
        if self.lm_head is None:
            return super().logits(hidden)
        return self.lm_head(hidden.to(self.lm_head.weight.dtype)).float()

    def loss_sum(
        self,
        inputs: Tensor,
        targets: Tensor,
        *,
        document_ids: Tensor | None = None,
        padding_mask: Tensor | None = None,
        chunk_tokens: int = DEFAULT_LOSS_CHUNK_TOKENS,
    ) -> LossSum:
        """See `LanguageModel.loss_sum`."""
        hidden = self.hidden_states(inputs, document_ids=document_ids, padding_mask=padding_mask).flatten(0, 1)
        counted = targets.flatten() != IGNORE_INDEX
        rows, wanted = hidden[counted].split(chunk_tokens), targets.flatten()[counted].split(chunk_tokens)
        losses = [
            F.cross_entropy(self.logits(chunk), expected, reduction="sum")
            for chunk, expected in zip(rows, wanted, strict=True)
        ]
        total = torch.stack(losses).sum() if len(wanted[0]) else torch.zeros((), device=hidden.device)
        return LossSum(total=total, num_targets=int(counted.sum()))

    def _move_to_huge_pages(self) -> None:
        """All packed matrices, in the order of their use, where the system has such pages."""
        weights = [weight for weight in self.packed_weights() if weight.words.device.type == "cpu"]
        if not can_be_huge(weight.words for weight in weights):
            return
        places = iter(huge_copies([tensor for weight in weights for tensor in weight.tensors]))
        moved = {id(weight): weight.with_tensors(places) for weight in weights}
        for part in self.modules():
            if isinstance(part, PackedProjection | PackedEmbedding):
                part.packed = moved.get(id(part.packed), part.packed)

    def packed_weights(self) -> list[PackedWeight]:
        """Each packed matrix once."""
        found = [part.packed for part in self.modules() if isinstance(part, PackedProjection | PackedEmbedding)]
        return list({id(packed): packed for packed in found}.values())

    @property
    def num_bytes(self) -> int:
        """Memory of all weights."""
        return sum(packed.num_bytes for packed in self.packed_weights()) + sum(p.nbytes for p in self.parameters())


def nearest_model(model: LanguageModel, plan: Quantization, *, dtype: torch.dtype | None = None) -> PackedModel:
    """A model with its matrices rounded to the nearest as a plan says; `model` stays as it is."""
    return PackedModel(model, nearest(model, plan), dtype=dtype)


def packed_module(name: str, matrix: Matrix, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """What stands for a matrix in the model: the embedding looks rows up, all others multiply."""
    if isinstance(matrix, QuantizedBlocks):
        if name != EMBEDDING and unsupported(matrix.scheme, device) is None:
            return BitsAndBytesProjection(matrix, dtype, device)
        packed = pack_blocks(matrix)
        return PackedEmbedding(packed, dtype) if name == EMBEDDING else PackedProjection(packed, dtype)
    outputs, inputs = matrix.shape
    with torch.device("meta"):
        module = nn.Embedding(outputs, inputs, _weight=matrix) if name == EMBEDDING else Projection(inputs, outputs)
    module.weight = nn.Parameter(matrix.detach().to(dtype), requires_grad=False)
    return module


def empty_model(config: ModelConfig) -> LanguageModel:
    """A model on the device meta: names and shapes, no values."""
    with torch.device("meta"):
        return LanguageModel(config).eval()


def dequantized_model(
    config: ModelConfig, matrices: Mapping[str, Matrix], others: Mapping[str, Tensor]
) -> LanguageModel:
    """A model in float32 whose matrices are what the given ones stand for: the definition of every packed model.

    Raises:
        ConfigError: a tensor is missing.
    """
    model = empty_model(config)
    weights = dict(others)
    for name in matrix_names(config):
        matrix = matrices[name]
        weights[f"{name}.weight"] = dequantize(matrix) if isinstance(matrix, QuantizedBlocks) else matrix.float()
    missing, _ = model.load_state_dict(weights, assign=True, strict=False)
    if missing:
        raise ConfigError(f"a model needs {missing[0]} ({len(missing)} tensors are missing)")
    return model.requires_grad_(False)


def fast_dtype() -> torch.dtype:
    """bfloat16 where this CPU multiplies it in hardware, else float32."""
    return torch.bfloat16 if has_instructions("avx512_bf16") or has_instructions("amx_bf16") else torch.float32
