"""Every setting of a training run. Imports no torch.

The same schema gives the flags of `mamba-slm train`, the keys of its YAML file and the arguments in Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mamba_slm.core.errors import ConfigError
from mamba_slm.training.profiling.steps import parse_steps
from mamba_slm.training.rounding_plan import rounding_plan
from mamba_slm.training.schedule import Limits, Schedule, ScheduleName


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of one run, all with a default; `mamba_slm.training.presets` holds what fits each model size."""

    model: str = "nano"
    """Name of a model preset (`mamba-slm models list`)."""

    initial: str | None = None
    """Begin with the weights of this model folder, checkpoint or run, and its tokenizer. Its sizes and pattern hold."""

    layout: Literal["portable", "classic"] | None = None
    """Feed-forwards after every mixer (portable) or after attention only (classic). Unset: the preset's own."""

    pattern: str | None = None
    """Layer pattern instead of the preset's, for example M-M-*-M-."""

    attention_share: float | None = None
    """Share of layers that are attention, in [0, 1]. Unset: the preset's own."""

    placement: str | None = None
    """Where attention goes: early-mid-top, even, top, or layer numbers with commas. Unset: the preset's own."""

    model_settings: tuple[str, ...] = ()
    """Other fields of the model as FIELD=VALUE, for example position=nope."""

    data: tuple[str, ...] = ()
    """Training text or token shards: PATH or NAME=PATH:WEIGHT, once per source; or the file of a mixture."""

    data_pattern: str | None = None
    """Files of a folder of text, separated by commas: '*.md,docs/*.txt,!*_old.txt'."""

    text_key: str = "text"
    """Key of the text in JSON, name of its column in Parquet, CSV and TSV."""

    encoding: str = "utf-8"
    """Of text files without a byte order mark, such as latin-1."""

    on_error: Literal["stop", "skip"] = "stop"
    """At a file or record that cannot be read: stop, or skip it and count it."""

    validation: str | None = None
    """Text or token shards to validate on. Unset: documents held out of the training data by hash of their name."""

    validation_share: float = 0.02
    """Share of documents held out when `validation` is unset, in [0, 0.5]; 0 means no validation."""

    tokenizer: str | None = None
    """Tokenizer file or folder. Unset: that of the shards, or one trained on the text with the preset's vocabulary."""

    vocab_size: int | None = None
    """Tokens of a tokenizer trained on the text. Unset: the preset's vocabulary."""

    context_tokens: int = 512
    """Length of a row."""

    batch_tokens: int = 8192
    """Tokens per optimiser step, a multiple of context_tokens."""

    micro_batch_rows: int | None = None
    """Rows that go through the model at once; fewer need less memory. Unset: 1k tokens on a CPU, else 8k."""

    max_tokens: int | None = None
    """Stop after this many training tokens."""

    max_steps: int | None = None
    """Stop after this many optimiser steps."""

    max_minutes: float | None = None
    """Stop after this much wall time, one step at least; the schedule ends on time on any machine, so the result
    depends on its speed."""

    optimizer: Literal["adamw", "adamw8bit", "muon"] = "adamw"
    """adamw8bit: moments of a byte instead of four (extra bnb). muon: for the matrices, half of adamw's moments."""

    learning_rate: float = 1e-3
    """Peak of the schedule."""

    schedule: ScheduleName = "cosine"
    """Shape after the warm-up: cosine, wsd (stable, then linear decay) or constant."""

    warmup_share: float = 0.02
    """Share of the run spent warming up, in [0, 1]."""

    warmup_tokens: int | None = None
    """Warm-up in tokens instead of a share; needs max_tokens or max_steps."""

    decay_share: float = 0.2
    """Share of the run spent decaying under wsd, in [0, 1]."""

    final_share: float = 0.1
    """Learning rate at the end as a share of the peak, in [0, 1]."""

    weight_decay: float = 0.1
    """On matrices only: never on norms, biases, A_log, dt_bias, D or the convolution."""

    beta1: float = 0.9
    """Decay rate of AdamW's first moment."""

    beta2: float = 0.95
    """Decay rate of AdamW's second moment."""

    epsilon: float = 1e-8
    """Added to the root of AdamW's second moment."""

    clip_norm: float = 1.0
    """Gradients are scaled down to this norm when theirs is larger; 0 means never."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of matrix products; master weights are float32. auto: bf16 where the hardware has it, else fp32."""

    qat: Literal["int8", "int4", "nf4", "fp4", "int8-dynamic", "mixed"] | None = None
    """Round all matrices in every pass, as `quantize --to` of the same name will, so that the model learns to live with
    it; `quantize RUN` then gives the very numbers that it computed with. Unset: no rounding."""

    qat_keep: str | None = None
    """Parts that are rounded otherwise, as PART=FORMAT with commas: in_proj=int8,head=int8; bf16 rounds nothing."""

    qat_block_size: int | None = None
    """Inputs that share a scale under `qat`; 0: a whole row. Unset: 64 for nf4 and fp4, else 32."""

    qat_start_step: int = 0
    """Steps before `qat` begins to round; validation rounds from the start, so that the best checkpoint is the best
    one to quantize."""

    gradient_checkpointing: bool = False
    """Keep only each sublayer's input and compute the rest again going back: less memory, about a third slower."""

    auto_fit: bool = False
    """Choose micro_batch_rows and gradient_checkpointing that fit, and less when memory runs out all the same."""

    compile: bool = False
    """torch.compile every sublayer; needs a C++ compiler (CPU) or Triton (GPU)."""

    kernels: Literal["auto", "native", "torch"] = "auto"
    """Faster ways of single operations, compiled once per machine in seconds (CPU: needs g++; GPU: Triton) and tested
    before they count. auto: those that can be had; native: all of them, or an error; torch: PyTorch's operations."""

    device: str = "auto"
    """cpu, cuda, cuda:1, mps. auto: the first GPU, else the CPU."""

    engine: Literal["auto", "ddp", "fsdp", "deepspeed"] = "auto"
    """How several processes share a model. ddp: each holds all of it. fsdp: each holds a share of it. deepspeed: ZeRO.
    auto: ddp where the estimate of memory fits one device, else fsdp."""

    sharding: Literal["full", "grad_optimizer", "none"] = "full"
    """What fsdp cuts into shares: all, or weights only between steps (faster, more memory), or nothing."""

    shard_processes: int | None = None
    """Neighbouring processes over which fsdp shares one copy of the model (hybrid). Unset: all of them."""

    offload: bool = False
    """Keep in the memory of the CPU: fsdp's weights and moments, deepspeed's moments and under stage 3 its weights."""

    zero_stage: Literal[1, 2, 3] | None = None
    """What deepspeed cuts into shares: 1 moments, 2 gradients, too, 3 weights, too. Unset: by its file, else 2."""

    deepspeed_config: str | None = None
    """Your own ds_config.json, which may tune what the settings of the run do not decide."""

    rank_timeout_minutes: float = 10.0
    """How long a process waits for the others of its job before one of them counts as lost."""

    prefetch_batches: int = 2
    """Batches that a thread reads ahead, so that no step waits for its rows; 0 means none."""

    threads: int | None = None
    """CPU threads. Unset: what torch chooses. Results are the same to the last bit only with the same number."""

    seed: int = 0
    """Of the initial weights and of the order of the data."""

    log_every_steps: int = 10
    """Steps between two lines on the screen; the metrics file has every step."""

    save_every_steps: int = 200
    """Steps between two checkpoints."""

    save_every_minutes: float | None = 10.0
    """Longest time between two checkpoints."""

    keep_last: int = 2
    """Newest checkpoints to keep, besides the best one and milestones."""

    milestone_every_steps: int | None = None
    """Checkpoints at multiples of this many steps are saved, and never deleted. Unset: none."""

    save_mode: Literal["auto", "whole", "sharded"] = "auto"
    """whole: the first process writes all of a checkpoint. sharded: each its part. auto: sharded under fsdp."""

    save_in_background: bool | None = None
    """Write checkpoints while training goes on, from a copy in the CPU's memory. Unset: yes on a GPU, no on a CPU."""

    validate_every_steps: int = 200
    """Steps between two validations; each saves a checkpoint first."""

    validation_tokens: int = 65_536
    """At most this many tokens per validation, the same ones every time."""

    early_stop_patience: int | None = None
    """Stop after this many validations in a row without a new best. Unset: never."""

    sample_every_steps: int = 200
    """Steps between two samples of text from the same prompts, step 0 included; 0 means none."""

    prompts: tuple[str, ...] = ()
    """What samples start from. Unset: an empty document."""

    benchmarks: tuple[str, ...] = ()
    """Benchmarks asked while training, by their names in `mamba-slm eval`. Unset: none."""

    benchmark_every_steps: int = 1000
    """Steps between two times of asking them; the end of the run is one, too."""

    benchmark_limit: int | None = 200
    """At most this many questions of each, always the same ones; unset: all."""

    benchmark_data_dir: str | None = None
    """Folder with local copies of their questions. Unset: they are downloaded."""

    spike_sigmas: float = 6.0
    """A loss this many standard deviations above its running mean is reported as a spike, with its documents."""

    spike_patience_steps: int = 200
    """Stop when the loss has stayed that high for this many steps in a row; 0 means never."""

    log: tuple[Literal["jsonl", "tensorboard", "wandb", "trackio"], ...] = ("jsonl",)
    """Where metrics go; jsonl is always written. wandb goes online only where somebody is logged in."""

    layers_every_steps: int = 50
    """Steps between two looks into the layers: sizes of updates, step sizes and decay of Mamba layers; 0: never."""

    profile_steps: str | None = None
    """Steps FIRST:LAST to trace with torch's profiler: a trace and tables of where their time goes, in RUN/profile."""

    def __post_init__(self) -> None:
        at_least = {
            "context_tokens": 1, "batch_tokens": 1, "log_every_steps": 1, "save_every_steps": 1, "keep_last": 1,
            "validate_every_steps": 1, "validation_tokens": 1, "sample_every_steps": 0, "weight_decay": 0,
            "clip_norm": 0, "spike_patience_steps": 0, "micro_batch_rows": 1, "early_stop_patience": 1, "threads": 1,
            "shard_processes": 1, "milestone_every_steps": 1, "prefetch_batches": 0,
            "benchmark_every_steps": 1, "benchmark_limit": 1,
            "layers_every_steps": 0, "qat_start_step": 0,
        }  # fmt: skip
        for name, least in at_least.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name} must be at least {least}, got {value}")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        for name in ("epsilon", "spike_sigmas"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be > 0, got {getattr(self, name)}")
        if not self.rank_timeout_minutes > 0:
            raise ConfigError(f"rank_timeout_minutes must be > 0, got {self.rank_timeout_minutes}")
        if self.save_every_minutes is not None and not self.save_every_minutes > 0:
            raise ConfigError(f"save_every_minutes must be > 0, got {self.save_every_minutes}")
        if not 0 <= self.validation_share <= 0.5:
            raise ConfigError(f"validation_share must lie in [0, 0.5], got {self.validation_share}")
        if self.qat is not None:
            rounding_plan(self.qat, keep=self.qat_keep, block_size=self.qat_block_size)
        elif (self.qat_keep, self.qat_block_size, self.qat_start_step) != (None, None, 0):
            raise ConfigError(
                "qat_keep, qat_block_size and qat_start_step say how to round, and qat is unset", hint="add --qat int4"
            )
        if self.profile_steps is not None:
            parse_steps(self.profile_steps)
        if self.batch_tokens % self.context_tokens:
            near = max(1, round(self.batch_tokens / self.context_tokens)) * self.context_tokens
            raise ConfigError(
                f"batch_tokens ({self.batch_tokens}) must be a multiple of context_tokens ({self.context_tokens})",
                hint=f"use --batch-tokens {near}",
            )
        if self.has_limit:
            self.run_schedule()

    @property
    def has_limit(self) -> bool:
        """Whether the run has an end."""
        return any(limit is not None for limit in (self.max_tokens, self.max_steps, self.max_minutes))

    @property
    def limit_tokens(self) -> int | None:
        """Tokens after which the run ends by `max_tokens` or `max_steps`; None when neither is given."""
        by_tokens = None if self.max_tokens is None else -(-self.max_tokens // self.batch_tokens) * self.batch_tokens
        by_steps = None if self.max_steps is None else self.max_steps * self.batch_tokens
        return min((tokens for tokens in (by_tokens, by_steps) if tokens is not None), default=None)

    @property
    def rows_per_step(self) -> int:
        """Rows of one optimiser step."""
        return self.batch_tokens // self.context_tokens

    @property
    def rows_at_once(self) -> int:
        """Rows of one pass through the model: `micro_batch_rows`, or about as many tokens as the device likes."""
        tokens = 2048 if self.device == "cpu" else 8192  # so few stay in a CPU's caches; a GPU needs more to be busy
        return min(self.rows_per_step, self.micro_batch_rows or max(1, tokens // self.context_tokens))

    def limits(self) -> Limits:
        """Where the run ends.

        Raises:
            ConfigError: no limit is given, or one is not positive.
        """
        seconds = None if self.max_minutes is None else 60 * self.max_minutes
        return Limits(tokens=self.max_tokens, steps=self.max_steps, seconds=seconds)

    def run_schedule(self) -> Schedule:
        """The learning rate as a function of progress.

        Raises:
            ConfigError: a share is outside [0, 1], or `warmup_tokens` has no run length in tokens to be a share of.
        """
        limits = self.limits()
        warmup_share = self.warmup_share
        if self.warmup_tokens is not None:
            by_steps = None if limits.steps is None else limits.steps * self.batch_tokens
            lengths = [length for length in (limits.tokens, by_steps) if length is not None]
            if not lengths:
                raise ConfigError(
                    "warmup_tokens needs a run length in tokens, and only max_minutes is given",
                    hint="use --warmup-share 0.02, or add --max-tokens",
                )
            warmup_share = min(1.0, self.warmup_tokens / min(lengths))
        return Schedule(
            kind=self.schedule,
            peak=self.learning_rate,
            warmup_share=warmup_share,
            decay_share=self.decay_share if self.schedule == "wsd" else 0.0,
            final_share=self.final_share,
        )
