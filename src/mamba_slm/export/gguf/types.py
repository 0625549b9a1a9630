"""Which tensor of a GGUF is stored in which type, and the quantizers behind the types."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mamba_slm.core.errors import UnknownNameError
from mamba_slm.core.optional import require
from mamba_slm.export.gguf.k_quants import quantize_q4_k, quantize_q6_k
from mamba_slm.export.gguf.layout import LayoutTensor

if TYPE_CHECKING:
    from types import ModuleType

    from mamba_slm.ops.lowbit.blocks import QuantizedBlocks

FLOAT, HALF, BFLOAT = "F32", "F16", "BF16"
Q8_0, Q6_K, Q5_0, Q4_1, Q4_K, Q4_0 = "Q8_0", "Q6_K", "Q5_0", "Q4_1", "Q4_K", "Q4_0"
MIXTURE = "Q4_K_M"

Values = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class FileType:
    """What `--type` names."""

    file_type: int
    """`general.file_type`, llama.cpp's `llama_ftype`."""
    least_agreement: float
    """Share of positions whose most likely token must stay the same."""
    largest_kl: float
    """Mean of KL(model || file) in nats that is still rounding of this width, and not a mistake."""


FILE_TYPES: dict[str, FileType] = {
    FLOAT: FileType(file_type=0, least_agreement=1.0, largest_kl=1e-6),
    HALF: FileType(file_type=1, least_agreement=0.9, largest_kl=1e-3),
    BFLOAT: FileType(file_type=32, least_agreement=0.8, largest_kl=1e-2),
    Q8_0: FileType(file_type=7, least_agreement=0.8, largest_kl=2e-2),
    Q6_K: FileType(file_type=18, least_agreement=0.7, largest_kl=5e-2),
    Q5_0: FileType(file_type=8, least_agreement=0.5, largest_kl=0.2),
    Q4_1: FileType(file_type=3, least_agreement=0.4, largest_kl=0.5),
    MIXTURE: FileType(file_type=15, least_agreement=0.3, largest_kl=0.7),
    Q4_K: FileType(file_type=14, least_agreement=0.3, largest_kl=0.7),
    Q4_0: FileType(file_type=2, least_agreement=0.3, largest_kl=1.0),
}
"""By the name of `--type`. The limits catch a broken export and do not promise quality: they are wide enough for random
weights, whose nearly equal logits change places easily."""

BLOCKS = {FLOAT: 1, HALF: 1, BFLOAT: 1, Q8_0: 32, Q5_0: 32, Q4_1: 32, Q4_0: 32, Q4_K: 256, Q6_K: 256}
"""Neighbouring values of a row that share scales; a row must be a multiple."""
BLOCK_BYTES = {FLOAT: 4, HALF: 2, BFLOAT: 2, Q8_0: 34, Q5_0: 22, Q4_1: 20, Q4_0: 18, Q4_K: 144, Q6_K: 210}
FALLBACKS = {Q4_K: Q5_0, Q6_K: Q8_0, Q8_0: HALF, Q5_0: HALF, Q4_1: HALF, Q4_0: HALF}
"""What a matrix gets whose rows are no multiple of the block, as llama.cpp chooses."""
LARGEST_ERROR = {
    FLOAT: 0.0,
    HALF: 5e-4,
    BFLOAT: 4e-3,
    Q8_0: 5e-3,
    Q6_K: 0.05,
    Q5_0: 0.07,
    Q4_1: 0.07,
    Q4_K: 0.2,
    Q4_0: 0.14,
}
"""Largest error of a value as a share of the largest magnitude in its block, for values of any distribution."""
HALF_STEP = 2.0**-25
"""Half of the smallest step of float16, in which all block formats store their scales."""
SCALE_STEPS = {FLOAT: 0, HALF: 1, BFLOAT: 0, Q8_0: 127, Q6_K: 128 * 32, Q5_0: 16, Q4_1: 16, Q4_K: 2 * 63 * 15, Q4_0: 8}
"""How often that step counts in a value: it limits blocks of tiny values."""


@dataclass(frozen=True, kw_only=True)
class PlannedTensor:
    """A tensor of the layout with the type it is stored in."""

    tensor: LayoutTensor
    type: str
    """A key of `BLOCKS`."""
    wanted: str
    """The type it would have with rows of another length."""
    numbers: QuantizedBlocks | None = None
    """Of its source, where they are written as they are."""

    @property
    def bytes(self) -> int:
        """Size in the file, without padding."""
        *rows, columns = self.tensor.shape
        return int(np.prod(rows, dtype=np.int64)) * columns // BLOCKS[self.type] * BLOCK_BYTES[self.type]


def plan(tensors: Iterable[LayoutTensor], file_type: str) -> list[PlannedTensor]:
    """The type of every tensor.

    Norms, convolutions and vectors stay float32. Feed-forwards of zeros become Q4_0, which holds zeros exactly.

    Raises:
        UnknownNameError: no such file type.
    """
    if file_type not in FILE_TYPES:
        raise UnknownNameError("GGUF type", file_type, FILE_TYPES)
    listed = list(tensors)
    more_bits = tensors_with_more_bits(listed) if file_type == MIXTURE else frozenset()
    planned = []
    for tensor in listed:
        wanted = Q4_K if file_type == MIXTURE else file_type
        if tensor.name in more_bits:
            wanted = Q6_K
        if not tensor.is_matrix:
            wanted = FLOAT
        elif not tensor.sources:
            wanted = Q4_0
        planned.append(PlannedTensor(tensor=tensor, type=fitting(wanted, tensor.shape[-1]), wanted=wanted))
    return planned


def fitting(wanted: str, columns: int) -> str:
    """The type itself, or the first of its fall-backs whose block divides the row."""
    while columns % BLOCKS[wanted]:
        wanted = FALLBACKS[wanted]
    return wanted


def tensors_with_more_bits(tensors: list[LayoutTensor]) -> frozenset[str]:
    """What Q4_K_M stores in Q6_K: the head, and values and feed-forward outputs of about half of the layers.

    Source: `llama_tensor_get_type` in src/llama-quant.cpp of llama.cpp at 0c1e57098.
    """
    names = [tensor.name for tensor in tensors]
    head = "output.weight" if "output.weight" in names else "token_embd.weight"
    chosen = {head}
    for kind in ("attn_v", "ffn_down"):
        members = [name for name in names if name.endswith(f".{kind}.weight")]
        eighth = len(members) // 8
        chosen |= {
            name
            for number, name in enumerate(members)
            if number < eighth or number >= 7 * len(members) // 8 or (number - eighth) % 3 == 2
        }
    return frozenset(chosen)


def gguf_package(purpose: str) -> ModuleType:
    """The `gguf` package.

    Raises:
        MissingDependencyError: it is not installed.
    """
    return require("gguf", extra="gguf", purpose=purpose)


def encode(values: Values, type: str) -> npt.NDArray[Any]:
    """Values [... n] in a type: float32 or float16 numbers, or bytes."""
    if type == Q4_K:
        return quantize_q4_k(values)
    if type == Q6_K:
        return quantize_q6_k(values)
    gguf = gguf_package("quantizing to GGUF types")
    return gguf.quants.quantize(values, gguf.GGMLQuantizationType[type])


def excess_error(values: Values, stored: Values, type: str) -> float:
    """The largest error of a value over the largest that its type allows: at most 1 for a tensor stored rightly."""
    if not np.isfinite(stored).all():
        return float("inf")
    a, b = (side.reshape(-1, BLOCKS[type]).astype(np.float64) for side in (values, stored))
    allowed = LARGEST_ERROR[type] * np.abs(a).max(axis=1, keepdims=True) + SCALE_STEPS[type] * HALF_STEP
    error = np.abs(a - b)
    return float(np.divide(error, allowed, out=np.where(error > 0, np.inf, 0.0), where=allowed > 0).max(initial=0.0))
