"""Peak memory of a training step by part, for every engine, from sizes alone. Imports no torch.

What is added up, in bytes of one process; p parameters, the shares of `Spread`:

    weights      4 p · share, and under half precision 2 per parameter of the matrices that are in use
    gradients    4 p · share
    optimizer    8 p · share for AdamW
    activations  what the forward pass keeps for the backward pass (`activations.py`)
    backward     gradients and temporaries of the largest sublayer
    logits       of one chunk, with the head's gradient
    gathered     weights collected from other processes, messages, a second copy that ZeRO keeps
    allocator    freed memory that the C library keeps, because giving it back and asking again costs time
    process      interpreter, libraries and what they need to compute
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import count_parameters
from mamba_slm.training.activations import activation_bytes, sublayer_bytes_per_token
from mamba_slm.training.spread import Spread

LOSS_CHUNK_TOKENS = 256
"""Tokens whose logits exist at once; `ops.loss.DEFAULT_LOSS_CHUNK_TOKENS`, which cannot be imported without torch."""

CPU_PROCESS_BYTES = 400 * 2**20
"""Python, torch, its libraries and their scratch memory on a CPU, measured with torch 2.13."""

PREPARING_BYTES = 90 * 2**20
"""What reading text and making a tokenizer leave behind in the process that trains: 60 to 130 MiB, measured."""

GPU_PROCESS_BYTES = 1 * 2**30
"""CUDA context and library workspaces, a common size; not measured here."""

GROUP_BYTES = 60 * 2**20
"""torch.distributed with gloo, per process; measured."""

LOSS_CHUNK_TOKENS_OF_GPUS = 4096
"""The same on a GPU; `ops.loss.LEAST_CHUNK_TOKENS_OF_GPUS`."""

KEPT_SHARE = {"fp32": 0.62, "bf16": 0.32, "fp16": 0.32}
"""Freed memory that glibc keeps (`core.allocator`), as a share of the activations on a CPU: measured with nano, tiny
and 60M, micro-batches of one to eight rows. With gradient checkpointing, too: as much is asked for and freed."""

GPU_BACKWARD_SHARE = 1.5
"""Of what the largest sublayer saved; assumed, as no GPU was measured."""

BUCKET_BYTES = 25 * 2**20
"""What DistributedDataParallel sends at once."""

ZERO_BUCKET_VALUES = 50_000_000
"""Values in one message of ZeRO: `engines.deepspeed_settings`; a smaller model needs fewer."""

ZERO_BUCKETS = {1: 4, 2: 4, 3: 7}
"""Such messages, and copies of their size, that a process holds at once: measured with tiny and 60M."""

OUTER_COPIES = 6
"""Copies of what is around the sublayers that fsdp holds at once: measured with tiny and 60M."""

MOMENT_BYTES = {"adamw": 8.0, "adamw8bit": 2.03}
"""Per parameter. Muon keeps one moment for the matrices inside the sublayers and AdamW's two for the rest."""


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Peak memory of one device, by part, in bytes."""

    weights: float
    """float32 masters, and their copies in half precision under autocast."""
    gradients: float
    optimizer: float
    """Moments, float32 but for adamw8bit."""
    activations: float
    """What the forward pass keeps for the backward pass."""
    backward: float
    """Gradients and temporaries while the largest sublayer goes back."""
    logits: float
    """Logits of one chunk of tokens, their gradient, and one gradient of the head."""
    gathered: float = 0.0
    """Weights collected from other processes, messages under way, and the second copy that ZeRO keeps."""
    allocator: float = 0.0
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


def estimate_memory(
    config: ModelConfig,
    *,
    context_tokens: int,
    rows_at_once: int,
    precision: str,
    gradient_checkpointing: bool,
    spread: Spread | None = None,
    on_gpu: bool = False,
    kernels: str = "native",
    optimizer: str = "adamw",
) -> MemoryEstimate:
    """Peak memory of one device.

    Args:
        context_tokens, rows_at_once: shape of a micro-batch on one device.
        precision: "fp32", "bf16" or "fp16" arithmetic; masters are float32 in all.
        spread: how the run lies on its devices; None means on one.
        kernels: "torch" for PyTorch's operations on a CPU.
        optimizer: "adamw", "adamw8bit" or "muon".
    """
    spread = spread or Spread()
    counts = count_parameters(config)
    parameters = counts.total
    tokens_at_once = rows_at_once * context_tokens
    half = 2 if precision != "fp32" else 0
    saved = {
        kind: sublayer_bytes_per_token(
            config, kind, context_tokens=context_tokens, precision=precision, on_gpu=on_gpu, kernels=kernels
        )
        for kind in config.pattern
    }
    without, activations = (
        activation_bytes(
            config,
            tokens_at_once=tokens_at_once,
            context_tokens=context_tokens,
            precision=precision,
            gradient_checkpointing=computed_again,
            on_gpu=on_gpu,
            kernels=kernels,
        )
        for computed_again in (False, gradient_checkpointing)
    )
    chunk = min(LOSS_CHUNK_TOKENS_OF_GPUS if on_gpu else LOSS_CHUNK_TOKENS, tokens_at_once)
    logit_bytes = 4 + 4 + half if on_gpu else half or 4  # on a CPU the softmax takes a few rows at a time
    head = config.vocab_size * config.hidden_size
    process = GPU_PROCESS_BYTES if on_gpu else CPU_PROCESS_BYTES + PREPARING_BYTES
    on_device = share_on_device(spread, on_gpu=on_gpu)
    copies = 0 if spread.engine == "fsdp" else half * (parameters - counts.embedding) * spread.weights
    return MemoryEstimate(
        weights=4 * parameters * on_device["weights"] + copies,
        gradients=4 * parameters * on_device["gradients"],
        optimizer=moment_bytes(config, optimizer) * on_device["moments"],
        activations=activations,
        backward=(GPU_BACKWARD_SHARE if on_gpu else 1.0) * tokens_at_once * max(saved.values()),
        logits=chunk * config.vocab_size * logit_bytes + (4 + half) * head,
        gathered=gathered_bytes(config, spread, half=half),
        allocator=0 if on_gpu else KEPT_SHARE[precision] * without,
        process=process + (spread.processes > 1) * GROUP_BYTES,
    )


def share_on_device(spread: Spread, *, on_gpu: bool) -> dict[str, float]:
    """What of weights, gradients and moments lies in the memory of the device between uses."""
    shares = {"weights": spread.weights, "gradients": spread.gradients, "moments": spread.moments}
    if not (on_gpu and spread.offload):
        return shares
    if spread.engine == "deepspeed" and spread.zero_stage < 3:
        return {**shares, "moments": 0.0}
    return dict.fromkeys(shares, 0.0)


def moment_bytes(config: ModelConfig, optimizer: str) -> float:
    """What the optimiser keeps for all parameters of a model."""
    counts = count_parameters(config)
    if optimizer == "muon":
        around = counts.embedding + counts.head
        return 8.0 * around + 4.0 * (counts.total - around)
    return MOMENT_BYTES[optimizer] * counts.total


def gathered_bytes(config: ModelConfig, spread: Spread, *, half: int) -> float:
    """Weights that are whole while a process computes with them, and messages between processes.

    fsdp collects the matrices in half precision, and what is around the sublayers (embedding, head) in float32: that
    unit stays whole from its forward to its backward pass, its gradient is whole, too, and both are copied for their
    messages.
    """
    if spread.processes == 1:
        return 0.0
    if spread.engine == "ddp":
        return 2.0 * BUCKET_BYTES
    counts = count_parameters(config)
    inside = counts.mamba + counts.attention + counts.feed_forward + counts.plugins
    if spread.engine == "deepspeed":
        bucket = 4.0 * min(counts.total, ZERO_BUCKET_VALUES)
        return 4 * counts.total / spread.group + bucket * ZERO_BUCKETS[spread.zero_stage]
    outside = 4.0 * (counts.total - inside)
    largest = max(
        parameters / number
        for parameters, number in (
            (counts.mamba, config.num_mamba),
            (counts.attention, config.num_attention),
            (counts.feed_forward, config.num_feed_forward),
            (counts.plugins, config.num_plugins),
        )
        if number
    )
    per_weight = half or 4
    return OUTER_COPIES * outside + per_weight * (2 * largest if spread.sharding == "full" else inside)
