"""Peak memory of a fine-tuning step by part, from sizes alone. Imports no torch.

What is added up, in bytes of one process; p parameters of the base, a those that are trained:

    base         qlora: codes and scales of the matrices (`Scheme.stored_bytes`), embedding and head in the dtype of
                 products, the rest in float32; lora: all matrices in the dtype of the base; full: 4 p
    adapters     4 a, and 2 a for the copies that autocast makes of them
    gradients    4 a
    optimizer    8 a for AdamW
    activations  what the forward pass keeps for the backward pass: that of training (`training/activations.py`), and
                 of every adapter what stands between its matrices
    backward     gradients and temporaries of the largest sublayer
    unpacked     qlora: the largest matrix as numbers, forward and backward
    logits       of one chunk; a frozen head has no gradient
    allocator    freed memory that the C library keeps; on a CPU
    process      interpreter, libraries and what they need to compute
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Literal

from mamba_slm.finetuning.adapters.settings import FULL_TENSORS, LoraSettings
from mamba_slm.finetuning.qlora.settings import FourBitSettings
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import count_parameters
from mamba_slm.model.matrices import matrix_shapes, part_of
from mamba_slm.model.pattern import ATTENTION, FEED_FORWARD, MAMBA, OWN_LETTERS
from mamba_slm.model.sublayer_plugin import plugins_of
from mamba_slm.training.activations import STREAM_BYTES, sublayer_bytes_per_token
from mamba_slm.training.memory_estimate import (
    GPU_BACKWARD_SHARE,
    GPU_PROCESS_BYTES,
    LOSS_CHUNK_TOKENS,
    LOSS_CHUNK_TOKENS_OF_GPUS,
    MOMENT_BYTES,
)

Method = Literal["lora", "qlora", "full"]
CPU_PROCESS_BYTES = 740 * 2**20
"""Python, torch, transformers, peft, accelerate, datasets and bitsandbytes on a CPU, with the
examples and a compiled kernel of each kind; measured with tiny and 60M."""

KEPT_SHARE = 0.62
"""Freed memory that glibc keeps, as a share of the activations on a CPU: what `train` has in fp32. In bf16, too, as
validation between the steps asks for blocks of other sizes."""

SMALL_TENSOR = 4096
"""Parameters of fewer values keep moments of float32 with adamw8bit."""


@dataclass(frozen=True, kw_only=True)
class FinetuneMemory:
    """Peak memory of one device, by part, in bytes."""

    base: float
    """The model as it was given, frozen but with --method full."""
    adapters: float
    """What is trained beside it, float32, and its copies in half precision."""
    gradients: float
    optimizer: float
    """Moments of what is trained."""
    activations: float
    """What the forward pass keeps for the backward pass."""
    backward: float
    """Gradients and temporaries while the largest sublayer goes back."""
    unpacked: float
    """The largest 4-bit matrix as numbers."""
    logits: float
    """Logits of one chunk of tokens, the head in half precision, the gradient of a trained head."""
    allocator: float
    """Freed memory that is kept for the next pass; on a CPU."""
    process: float
    """Interpreter and libraries."""

    @property
    def total(self) -> float:
        """All parts."""
        return sum(asdict(self).values())

    @property
    def largest(self) -> tuple[str, float]:
        """Name and bytes of the largest part."""
        return max(asdict(self).items(), key=lambda part: part[1])


@dataclass(frozen=True, kw_only=True)
class FinetuneShape:
    """What besides the model decides how much memory a step needs."""

    method: Method
    context_tokens: int
    rows_at_once: int
    precision: Literal["fp32", "bf16", "fp16"]
    """Of the arithmetic."""
    gradient_checkpointing: bool = False
    lora: LoraSettings = field(default_factory=LoraSettings)
    four_bit: FourBitSettings = field(default_factory=FourBitSettings)
    half_base: bool | None = None
    """Whether lora holds the frozen matrices in 16 bits; None: on a GPU whose arithmetic is in 16 bits."""
    optimizer: str = "adamw"
    on_gpu: bool = False
    kernels: Literal["native", "torch"] = "native"
    """Of a CPU; torch: PyTorch's operations."""

    @property
    def value_bytes(self) -> int:
        """Of products."""
        return 4 if self.precision == "fp32" else 2

    @property
    def held_bytes(self) -> int:
        """Of a number of a matrix that is not packed, between products."""
        half = self.half_base if self.half_base is not None else self.on_gpu and self.value_bytes == 2
        return 2 if self.method == "lora" and half else self.value_bytes if self.method == "qlora" else 4


def trained_parameters(config: ModelConfig, shape: FinetuneShape) -> int:
    """How many numbers are trained.

    An adapter of a matrix [o i] has rank · (o + i), with DoRA o more.
    """
    if shape.method == "full":
        return count_parameters(config).total
    return sum(adapter_sizes(config, shape.lora).values()) + sum(full_sizes(config, shape.lora).values())


def adapter_sizes(config: ModelConfig, lora: LoraSettings) -> dict[str, int]:
    """Numbers in the adapter of every matrix that has one, by the name of the matrix."""
    return {
        name: lora.rank * (outputs + inputs) + outputs * lora.dora
        for name, (outputs, inputs) in matrix_shapes(config).items()
        if part_of(name) in lora.target_names
    }


def full_sizes(config: ModelConfig, lora: LoraSettings) -> dict[str, int]:
    """Numbers of the small tensors that are trained as they are, by the name of the choice."""
    c = config
    sizes = {
        "conv": c.num_mamba * c.conv_size * (c.conv_kernel + 1),
        "A_log": c.num_mamba * c.num_ssm_heads,
        "D": c.num_mamba * c.num_ssm_heads,
        "dt_bias": c.num_mamba * c.num_ssm_heads,
        "norms": (len(c.pattern) + 1) * c.hidden_size + c.num_mamba * c.inner_size,
    }
    assert sizes.keys() == FULL_TENSORS.keys()
    return {name: size for name, size in sizes.items() if name in lora.full}


def estimate_finetune_memory(config: ModelConfig, shape: FinetuneShape) -> FinetuneMemory:
    """Peak memory of one device."""
    trained = trained_parameters(config, shape)
    tokens = shape.rows_at_once * shape.context_tokens
    saved = [saved_bytes_per_token(config, index, shape) for index in range(len(config.pattern))]
    without = tokens * (STREAM_BYTES * config.hidden_size + sum(saved))
    inputs = 4 * config.hidden_size * len(saved)
    again = tokens * (STREAM_BYTES * config.hidden_size + inputs + max(saved))
    shapes = matrix_shapes(config)
    largest = max(o * i for name, (o, i) in shapes.items() if part_of(name) not in ("embedding", "head"))
    return FinetuneMemory(
        base=base_bytes(config, shape),
        adapters=0.0 if shape.method == "full" else (4.0 if shape.value_bytes == 4 else 6.0) * trained,
        gradients=4.0 * trained,
        optimizer=moment_bytes(config, shape),
        activations=again if shape.gradient_checkpointing else without,
        backward=(GPU_BACKWARD_SHARE if shape.on_gpu else 1.0) * tokens * max(saved),
        unpacked=float(shape.value_bytes * largest) if shape.method == "qlora" else 0.0,
        logits=logit_bytes(config, shape, tokens),
        allocator=0.0 if shape.on_gpu else KEPT_SHARE * without,
        process=GPU_PROCESS_BYTES if shape.on_gpu else CPU_PROCESS_BYTES,
    )


def base_bytes(config: ModelConfig, shape: FinetuneShape) -> float:
    """The model without adapters, with the copies in half precision that autocast makes of float32 matrices."""
    plan = shape.four_bit.plan.fitted_to(config)
    copied = 2 if shape.held_bytes > shape.value_bytes else 0
    total = in_matrices = 0.0
    for name, (outputs, inputs) in matrix_shapes(config).items():
        scheme = plan[name] if shape.method == "qlora" else None
        numbers = outputs * inputs
        in_matrices += numbers
        if scheme is not None:
            total += scheme.stored_bytes(outputs, inputs)
        else:
            total += numbers * (shape.held_bytes + (copied if part_of(name) != "embedding" else 0))
    return total + 4.0 * (count_parameters(config).total - in_matrices)


def moment_bytes(config: ModelConfig, shape: FinetuneShape) -> float:
    """What the optimiser keeps of what is trained."""
    trained = trained_parameters(config, shape)
    if shape.method == "full" or shape.optimizer == "adamw":
        return MOMENT_BYTES.get(shape.optimizer, MOMENT_BYTES["adamw"]) * trained
    rank, large = shape.lora.rank, 0
    for name, (outputs, inputs) in matrix_shapes(config).items():
        if part_of(name) in shape.lora.target_names:
            large += sum(rank * side for side in (outputs, inputs) if rank * side >= SMALL_TENSOR)
    return MOMENT_BYTES[shape.optimizer] * large + MOMENT_BYTES["adamw"] * (trained - large)


def saved_bytes_per_token(config: ModelConfig, index: int, shape: FinetuneShape) -> float:
    """What sublayer `index` keeps for the backward pass, per token.

    Frozen matrices keep no input, but their adapters do, and what stands between A and B. Dropout keeps its mask, and
    a copy of the input for each of q, k and v; DoRA both products. On CPUs peft does not see autocast: it widens
    inputs, and each of q, k, v and o narrows a copy again.
    """
    kind = config.pattern[index]
    usual = sublayer_bytes_per_token(
        config,
        kind,
        context_tokens=shape.context_tokens,
        precision=shape.precision,
        on_gpu=shape.on_gpu,
        kernels=shape.kernels,
    )
    if shape.method == "full":
        return usual
    low, lora, prefix = shape.value_bytes, shape.lora, f"sublayers.{index}."
    adapted = {
        part_of(name): sizes
        for name, sizes in matrix_shapes(config).items()
        if name.startswith(prefix) and part_of(name) in lora.target_names
    }
    widened = low == 2 and not shape.on_gpu
    more = low * lora.rank * len(adapted) - low * unread_inputs(config, kind, set(adapted))
    if kind == ATTENTION and (widened or lora.dropout):
        more += low * sum(adapted[part][1] for part in ("k_proj", "v_proj", "o_proj") if part in adapted)
    if lora.dropout:
        more += (1 if shape.on_gpu else 4) * sum(inputs for _, inputs in adapted.values())
    if lora.dora:
        more += 2 * low * sum(outputs for outputs, _ in adapted.values())
    return usual + more


def unread_inputs(config: ModelConfig, kind: str, adapted: set[str]) -> int:
    """Width of the inputs of matrices without adapters, which nobody keeps."""
    d = config.hidden_size
    if kind == ATTENTION:
        return 0 if adapted & {"q_proj", "k_proj", "v_proj"} else d  # attention itself keeps what o_proj reads
    widths = {"in_proj": d, "out_proj": config.inner_size} if kind == MAMBA else {}
    if kind not in OWN_LETTERS:
        plugin, settings = plugins_of(config)[kind]
        widths = {name: inputs for name, (_, inputs) in plugin.matrices(config, settings).items()}
    widths |= {"gate_up_proj": d, "down_proj": config.feed_forward_size} if kind == FEED_FORWARD else {}
    return sum(width for part, width in widths.items() if part not in adapted)


def logit_bytes(config: ModelConfig, shape: FinetuneShape, tokens: int) -> float:
    """The head and what comes out of it."""
    low = shape.value_bytes
    chunk = min(LOSS_CHUNK_TOKENS_OF_GPUS if shape.on_gpu else LOSS_CHUNK_TOKENS, tokens)
    per_logit = 4 + 4 + (low if low == 2 else 0) if shape.on_gpu else low
    logits = chunk * config.vocab_size * per_logit
    head = config.vocab_size * config.hidden_size
    half_head = 2 * head if shape.held_bytes > low else 0
    return logits + half_head + (4 * head if shape.method == "full" else 0)
