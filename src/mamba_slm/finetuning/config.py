"""All settings of a fine-tuning. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from mamba_slm.core.errors import ConfigError
from mamba_slm.finetuning.adapters.settings import LoraSettings
from mamba_slm.finetuning.qlora.settings import FourBitSettings
from mamba_slm.finetuning.watch_config import WatchConfig
from mamba_slm.training.rounding_plan import rounding_plan
from mamba_slm.training.schedule import Schedule, ScheduleName

RATES = {"lora": 2e-4, "qlora": 2e-4, "full": 2e-5}
"""Method -> the peak of the learning rate for a model of 1.3B parameters; smaller models take more."""
REFERENCE_PARAMETERS = 1.3e9
LARGEST_RATE = 3e-3


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(WatchConfig, LoraSettings):
    """What `mamba-slm finetune` can be told. The settings of an adapter stand beside those of the run."""

    model: str = ""
    """Model folder, checkpoint or run to begin with."""

    data: tuple[str, ...] = ()
    """Conversations or texts: a file, a folder, or a data set on the hub as OWNER/NAME; several are put together."""

    method: Literal["lora", "qlora", "full"] = "lora"
    """lora: train small matrices beside the frozen ones. qlora: the same over matrices of 4 bits. full: all weights."""

    form: str | None = None
    """How the records are written: messages, sharegpt, ultrachat, alpaca, prompt-completion, openassistant, text, …
    Unset: told by the records."""

    split: str | None = None
    """Part of a data set that has several. Unset: the one for training."""

    limit: int | None = None
    """Read at most so many examples of each source. Unset: all."""

    validation: str | None = None
    """Held-out examples: a file, folder or data set. Unset: some of `data`, chosen by the hash of their content."""

    validation_share: float = 0.05
    """Share of the examples held out when `validation` is unset, in [0, 0.5]; 0 means no validation."""

    validation_tokens: int = 65_536
    """At most this many tokens per validation, the same ones every time."""

    template: str = "auto"
    """Chat template: auto (the model's own, else ChatML), chatml, or a file with Jinja text."""

    train_on: Literal["answers", "last-answer", "all"] = "answers"
    """What is learned: all answers with the tokens that end them, the last answer only, or every token."""

    too_long: Literal["drop", "cut", "refuse"] = "drop"
    """An example longer than the context: left out, cut off at its end, or an error."""

    context_tokens: int | None = None
    """Most tokens of an example, and length of a packed row. Unset: the model's context, at most 1024."""

    packing: bool = True
    """Put several examples into a row, kept apart in attention, convolution and scan; without it rows are padded."""

    epochs: float = 2.0
    """Passes over the data, unless max_steps ends the run before."""

    batch_tokens: int = 8192
    """Tokens of an optimiser step, about: whole rows."""

    micro_batch_rows: int | None = None
    """Rows that go through the model at once; fewer need less memory. Unset: 2k tokens on a CPU, else 8k."""

    optimizer: Literal["adamw", "adamw8bit", "muon"] = "adamw"
    """adamw8bit: moments of a byte instead of four (extra bnb). muon: for matrices, with --method full."""

    learning_rate: float | None = None
    """Peak of the schedule. Unset: by method and size of the model, which is said."""

    schedule: ScheduleName = "cosine"
    """Shape after the warm-up: cosine, wsd (stable, then linear decay) or constant."""

    warmup_share: float = 0.03
    """Share of the run spent warming up, in [0, 1]."""

    decay_share: float = 0.2
    """Share of the run spent decaying under wsd, in [0, 1]."""

    final_share: float = 0.1
    """Learning rate at the end as a share of the peak, in [0, 1]."""

    weight_decay: float = 0.0
    """On matrices only: never on norms, biases, A_log, dt_bias, D or the convolution."""

    beta1: float = 0.9
    """Decay rate of AdamW's first moment."""

    beta2: float = 0.999
    """Decay rate of AdamW's second moment."""

    epsilon: float = 1e-8
    """Added to the root of AdamW's second moment."""

    clip_norm: float = 1.0
    """Gradients are scaled down to this norm when theirs is larger; 0 means never."""

    base_weights: Literal["auto", "fp32", "bf16"] = "auto"
    """How --method lora holds the frozen weights. auto: bf16 on a GPU whose arithmetic is, too, else fp32."""

    base_format: Literal["nf4", "fp4"] = "nf4"
    """The 4 bits of --method qlora."""

    double_quantization: bool = True
    """Store the scales of --method qlora in 8 bits, too."""

    qat: Literal["int8", "int4", "nf4", "fp4", "int8-dynamic", "mixed"] | None = None
    """With --method full: round all matrices in every pass, as `quantize --to` of the same name will. Unset: none."""

    merge: bool = False
    """Also write the model with the adapter added to its weights, as RUN/model."""

    benchmarks: tuple[str, ...] = ()
    """Benchmarks asked before the first step and after the last, by their names in `mamba-slm eval`. Unset: none."""

    benchmark_every_steps: int = 1_000_000
    """Steps between two times of asking them in between."""

    benchmark_limit: int | None = 200
    """At most this many questions of each, always the same ones; unset: all."""

    benchmark_data_dir: str | None = None
    """Folder with local copies of their questions. Unset: they are downloaded."""

    def __post_init__(self) -> None:
        WatchConfig.__post_init__(self)
        LoraSettings.__post_init__(self)
        at_least = {
            "context_tokens": 2, "batch_tokens": 1, "micro_batch_rows": 1, "validation_tokens": 1, "limit": 1,
            "weight_decay": 0, "clip_norm": 0, "benchmark_every_steps": 1, "benchmark_limit": 1,
        }  # fmt: skip
        for name, least in at_least.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name} must be at least {least}, got {value}")
        if not self.epochs > 0:
            raise ConfigError(f"epochs must be > 0, got {self.epochs:g}")
        if not 0 <= self.validation_share <= 0.5:
            raise ConfigError(f"validation_share must lie in [0, 0.5], got {self.validation_share}")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if self.qat is not None:
            if self.method != "full":
                raise ConfigError(
                    f"qat rounds weights that are trained, and --method {self.method} trains none of them",
                    hint="use --method full with it, or --method qlora for a base of 4 bits",
                )
            rounding_plan(self.qat, keep=None, block_size=None)
        if self.method == "full" and self.merge:
            raise ConfigError("there is no adapter to merge with --method full", hint="leave out --merge")
        if self.method != "full" and self.optimizer == "muon":
            raise ConfigError("muon makes updates of full rank, and an adapter has none", hint="use --optimizer adamw")
        self.run_schedule(peak=1.0)

    @property
    def lora(self) -> LoraSettings:
        """The settings of the adapter by themselves."""
        return LoraSettings(**{field.name: getattr(self, field.name) for field in fields(LoraSettings)})

    @property
    def four_bit(self) -> FourBitSettings:
        """The settings of the base of QLoRA by themselves."""
        return FourBitSettings(format=self.base_format, double_quantization=self.double_quantization)

    def peak_rate(self, parameters: int) -> tuple[float, str]:
        """The peak of the learning rate, and why.

        Args:
            parameters: of the model.

        >>> rate, why = FinetuneConfig(method="lora").peak_rate(10_600_000)
        >>> f"{rate:.1e}, {why}"
        '2.2e-03, lora at 10.6M parameters: 0.0002 · (1.30B / 10.6M)^½'
        """
        if self.learning_rate is not None:
            return self.learning_rate, "asked for"
        from mamba_slm.core.units import format_count

        rate = RATES[self.method] * (REFERENCE_PARAMETERS / parameters) ** 0.5
        reason = (
            f"{self.method} at {format_count(parameters)} parameters: {RATES[self.method]:g} · "
            f"({format_count(REFERENCE_PARAMETERS)} / {format_count(parameters)})^½"
        )
        return (rate, reason) if rate <= LARGEST_RATE else (LARGEST_RATE, f"{reason}, at most {LARGEST_RATE:g}")

    def run_schedule(self, *, peak: float) -> Schedule:
        """The learning rate as a function of progress.

        Raises:
            ConfigError: a share is outside [0, 1], or a rate is not positive.
        """
        return Schedule(
            kind=self.schedule,
            peak=peak if self.learning_rate is None else self.learning_rate,
            warmup_share=self.warmup_share,
            decay_share=self.decay_share if self.schedule == "wsd" else 0.0,
            final_share=self.final_share,
        )
