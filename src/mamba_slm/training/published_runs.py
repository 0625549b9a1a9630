"""The runs that the original project published, as settings, with their claimed times and what the arithmetic says.

    print(small_scale())                                             settings, plan, and the claim beside it
    small_scale().config(data=("tokens",))                           a `TrainConfig`
    replace(small_scale(), model="nano").config(context_tokens=64)   the same schedule for a model that fits here

Each is a function of nothing; a name of `PUBLISHED_RUNS` also stands where `mamba-slm train` and `mamba-slm models
estimate` take a preset, and as `mamba-slm train SIZE --config NAME`, which takes the run but not its model. Imports no
torch.

The claimed times of the first five follow one formula, found by dividing: 6 · parameters · tokens / 50 TFLOP/s at 2,048
tokens per row, whatever the number of GPUs. The 2.3 days of `production` are 100,000 steps of 2 seconds, more than its
8 GPUs can do at their peak.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mamba_slm.core.config import from_dict
from mamba_slm.core.errors import UnknownNameError
from mamba_slm.core.hardware import find_gpu
from mamba_slm.core.units import format_count, format_seconds
from mamba_slm.model.presets import preset
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.estimate import Estimate, estimate_training
from mamba_slm.training.presets import TRAIN_PRESETS, train_preset
from mamba_slm.training.spread import Spread

DAY = 86_400.0
CLAIMED_FLOPS_PER_SECOND = 50e12
"""What the claims divide by, for all GPUs of a run together."""
GPU = "A100 80GB"
PUBLISHED_CONTEXT_TOKENS = 2048
SHOWN_BY = "mamba-slm models list shows the sizes; runs are quick_test, small_scale, …, production"


@dataclass(frozen=True, kw_only=True)
class PublishedRun:
    """One run as it was published. `print(run)` shows what it takes."""

    name: str
    model: str
    """A model preset; another one keeps batch and length of the run."""

    gpus: int
    rows_per_step: int
    """Sequences per optimiser step, over all GPUs."""

    steps: int
    purpose: str
    claimed_seconds: float
    """How long it was said to take on A100s."""

    learning_rate: float | None = None
    """None where none was published: that of the model's preset."""

    warmup_steps: int | None = None
    """None where none was published: 2% of the run."""

    context_tokens: int = PUBLISHED_CONTEXT_TOKENS
    """Tokens per row; only `production` names it, and the claimed times of the others fit no other."""

    @property
    def tokens(self) -> int:
        """Training tokens."""
        return self.rows_per_step * self.context_tokens * self.steps

    def settings(self) -> dict[str, Any]:
        """Fields of `TrainConfig` that differ from its defaults."""
        own = {name: value for name, value in train_preset(self.model).items() if name not in self.length_settings()}
        return {**own, **self.recipe()}

    def recipe(self) -> dict[str, Any]:
        """The part of the settings that does not depend on the model: batch, length, and the schedule if published."""
        published: dict[str, Any] = {}
        if self.learning_rate is not None:
            published["learning_rate"] = self.learning_rate
        if self.warmup_steps is not None:
            published["warmup_tokens"] = self.warmup_steps * self.rows_per_step * self.context_tokens
        return {**self.length_settings(), **published}

    def length_settings(self) -> dict[str, Any]:
        """Batch and length."""
        return {
            "context_tokens": self.context_tokens,
            "batch_tokens": self.rows_per_step * self.context_tokens,
            "max_steps": self.steps,
        }

    def config(self, **changes: Any) -> TrainConfig:
        """Settings of the run, with changes to any field of `TrainConfig`; the batch keeps its number of rows.

        Raises:
            ConfigError: an unknown or impossible setting.
        """
        settings = {**self.settings(), **changes}
        if "batch_tokens" not in changes:
            settings["batch_tokens"] = self.rows_per_step * settings["context_tokens"]
            if self.warmup_steps is not None and not {"warmup_tokens", "warmup_share"} & set(changes):
                settings["warmup_tokens"] = self.warmup_steps * settings["batch_tokens"]
        return from_dict(TrainConfig, settings, where=f"published run {self.name}")

    def estimate(self, *, mfu: float | None = None) -> Estimate:
        """Time, memory and cost on its A100s by our own formula."""
        settings = self.config()
        return estimate_training(
            preset(self.model),
            context_tokens=self.context_tokens,
            batch_tokens=settings.batch_tokens,
            rows_at_once=min(settings.rows_at_once, max(1, self.rows_per_step // self.gpus)),
            tokens=self.tokens,
            gradient_checkpointing=settings.gradient_checkpointing,
            gpu=find_gpu(GPU),
            spread=Spread() if self.gpus == 1 else Spread(engine="fsdp", processes=self.gpus),
            mfu=mfu,
        )

    def claimed_flops_per_second(self) -> float:
        """What the claim needs, by the rule of 6 FLOPs per parameter and token that it was made with."""
        return 6 * self.estimate().parameters * self.tokens / self.claimed_seconds

    def claim(self) -> str:
        """The claimed time, what it needs, and what the GPUs could do at most."""
        peak, needs = find_gpu(GPU).half_flops_per_second, self.claimed_flops_per_second()
        claimed, parameters = format_seconds(self.claimed_seconds), format_count(self.estimate().parameters)
        return (
            f"{claimed}: 6 × {parameters} parameters × {format_count(self.tokens)} tokens / {claimed} = "
            f"{needs / 1e12:,.0f} TFLOP/s, {needs / (self.gpus * peak):.0%} of the peak of {self.gpus} × {GPU}"
        )

    def __str__(self) -> str:
        published = [f"learning rate {self.settings()['learning_rate']:.2g}"]
        if self.warmup_steps is not None:
            published.append(f"{self.warmup_steps:,} steps of warm-up")
        return "\n".join(
            [
                f"{self.name}: {self.purpose}",
                f"model       {self.model} on {self.gpus} × {GPU}",
                f"batch       {self.rows_per_step} × {self.context_tokens:,} = "
                f"{format_count(self.rows_per_step * self.context_tokens)} tokens, {self.steps:,} steps, "
                f"{format_count(self.tokens)} tokens; {', '.join(published)}",
                str(self.estimate()),
                f"claimed     {self.claim()}",
            ]
        )


def quick_test() -> PublishedRun:
    """1.3B, one GPU, batch 4, 1,000 steps."""
    return PublishedRun(
        name="quick_test",
        model="1.3B",
        gpus=1,
        rows_per_step=4,
        steps=1_000,
        purpose="testing the pipeline",
        claimed_seconds=0.4 * 3600,
    )


def small_scale() -> PublishedRun:
    """1.3B, 4 GPUs, batch 64, 50,000 steps."""
    return PublishedRun(
        name="small_scale",
        model="1.3B",
        gpus=4,
        rows_per_step=64,
        steps=50_000,
        purpose="development",
        claimed_seconds=13 * DAY,
    )


def medium_scale() -> PublishedRun:
    """2.7B, 8 GPUs, batch 256, 100,000 steps."""
    return PublishedRun(
        name="medium_scale",
        model="2.7B",
        gpus=8,
        rows_per_step=256,
        steps=100_000,
        purpose="production",
        claimed_seconds=186 * DAY,
    )


def large_scale() -> PublishedRun:
    """6.7B, 8 GPUs, batch 256, 150,000 steps."""
    return PublishedRun(
        name="large_scale",
        model="6.7B",
        gpus=8,
        rows_per_step=256,
        steps=150_000,
        purpose="high quality",
        claimed_seconds=651 * DAY,
    )


def xlarge_scale() -> PublishedRun:
    """13B, 8 GPUs, batch 256, 200,000 steps."""
    return PublishedRun(
        name="xlarge_scale",
        model="13B",
        gpus=8,
        rows_per_step=256,
        steps=200_000,
        purpose="research",
        claimed_seconds=1552 * DAY,
    )


def production() -> PublishedRun:
    """1.3B, 8 GPUs, 512 rows of 2,048 tokens, 100,000 steps; its schedule was published, too."""
    return PublishedRun(
        name="production",
        model="1.3B",
        gpus=8,
        rows_per_step=512,
        steps=100_000,
        purpose="105 billion tokens",
        claimed_seconds=2.3 * DAY,
        learning_rate=3e-4,
        warmup_steps=2_000,
    )


PUBLISHED_RUNS: dict[str, Callable[[], PublishedRun]] = {
    function.__name__: function
    for function in (quick_test, small_scale, medium_scale, large_scale, xlarge_scale, production)
}


def settings_of(name: str) -> dict[str, Any]:
    """Fields of `TrainConfig` that a name brings: of a published run, or of a model preset.

    Raises:
        UnknownNameError: neither; names the nearest.
    """
    if name in PUBLISHED_RUNS:
        return PUBLISHED_RUNS[name]().settings()
    if name in TRAIN_PRESETS:
        return train_preset(name)
    raise UnknownNameError("preset", name, (*TRAIN_PRESETS, *PUBLISHED_RUNS), hint=SHOWN_BY)
