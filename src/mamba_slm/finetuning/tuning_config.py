"""What fine-tuning and alignment let one choose alike: the model, its base, the optimiser, benchmarks. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

from mamba_slm.core.errors import ConfigError
from mamba_slm.core.units import format_count
from mamba_slm.finetuning.adapters.settings import LoraSettings
from mamba_slm.finetuning.qlora.settings import FourBitSettings
from mamba_slm.finetuning.watch_config import WatchConfig
from mamba_slm.training.schedule import Schedule, ScheduleName

REFERENCE_PARAMETERS = 1.3e9
"""Of the models that rates are given for."""


@dataclass(frozen=True, kw_only=True)
class TuningConfig(WatchConfig, LoraSettings):
    """The settings of an adapter stand beside those of the run. `FinetuneConfig` and `AlignConfig` add their own."""

    model: str = ""
    """Model folder, checkpoint or run to begin with."""

    method: Literal["lora", "qlora", "full"] = "lora"
    """lora: train small matrices beside the frozen ones. qlora: the same over matrices of 4 bits. full: all weights."""

    split: str | None = None
    """Part of a data set that has several. Unset: the one for training."""

    limit: int | None = None
    """Read at most so many examples of each source. Unset: all."""

    validation_share: float = 0.05
    """Share of the examples held out when `validation` is unset, in [0, 0.5]; 0 means no validation."""

    template: str = "auto"
    """Chat template: auto (the model's own, else ChatML), chatml, or a file with Jinja text."""

    too_long: Literal["drop", "cut", "refuse"] = "drop"
    """An example longer than the context: left out, cut off at its end, or an error."""

    epochs: float = 1.0
    """Passes over the data, unless max_steps ends the run before."""

    micro_batch_rows: int | None = None
    """Rows that go through the model at once; fewer need less memory. Unset: 2k tokens on a CPU, else 8k."""

    learning_rate: float | None = None
    """Peak of the schedule. Unset: by what is trained and the size of the model, which is said."""

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
        least = {"limit": 1, "micro_batch_rows": 1, "weight_decay": 0, "clip_norm": 0, "benchmark_every_steps": 1}
        self.require_at_least({**least, "benchmark_limit": 1})
        if not self.epochs > 0:
            raise ConfigError(f"epochs must be > 0, got {self.epochs:g}")
        if not 0 <= self.validation_share <= 0.5:
            raise ConfigError(f"validation_share must lie in [0, 0.5], got {self.validation_share}")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        self.run_schedule(peak=1.0)

    def require_at_least(self, limits: Mapping[str, float]) -> None:
        """Raise ConfigError for a setting below its limit; unset ones have none."""
        for name, least in limits.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name} must be at least {least}, got {value}")

    @property
    def lora(self) -> LoraSettings:
        """The settings of the adapter by themselves."""
        return LoraSettings(**{field.name: getattr(self, field.name) for field in fields(LoraSettings)})

    @property
    def four_bit(self) -> FourBitSettings:
        """The settings of the base of QLoRA by themselves."""
        return FourBitSettings(format=self.base_format, double_quantization=self.double_quantization)

    def scaled_rate(self, base: float, what: str, parameters: int, *, largest: float) -> tuple[float, str]:
        """The peak of the learning rate, and why: `base` at 1.3B parameters, more for smaller models.

        Args:
            what: is trained, for the reason.
            parameters: of the model.
            largest: no size takes more.
        """
        if self.learning_rate is not None:
            return self.learning_rate, "asked for"
        rate = base * (REFERENCE_PARAMETERS / parameters) ** 0.5
        sizes = f"{format_count(REFERENCE_PARAMETERS)} / {format_count(parameters)}"
        reason = f"{what} at {format_count(parameters)} parameters: {base:g} · ({sizes})^½"
        return (rate, reason) if rate <= largest else (largest, f"{reason}, at most {largest:g}")

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
