"""All settings of an alignment. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

from mamba_slm.core.errors import ConfigError
from mamba_slm.core.units import format_count
from mamba_slm.finetuning.adapters.settings import MODULE_NAMES, LoraSettings
from mamba_slm.finetuning.qlora.settings import FourBitSettings
from mamba_slm.finetuning.watch_config import WatchConfig
from mamba_slm.training.schedule import Schedule, ScheduleName

Objective = Literal["dpo", "ipo", "kto", "orpo", "simpo", "reward", "grpo"]
OBJECTIVES: tuple[str, ...] = get_args(Objective)
HAS_REFERENCE = ("dpo", "ipo", "kto")
"""What compares with the model before training, in pairs or labelled answers."""
RATES = {
    **dict.fromkeys(("dpo", "ipo", "kto", "simpo"), 1e-5),
    "orpo": 2e-5,
    "reward": 2e-5,
    "grpo": 1e-5,
}
"""Objective -> peak of the learning rate for adapters on a model of 1.3B parameters; smaller models take more."""
SHARE_IN_FULL = 0.1
"""Of that rate, where all weights are trained."""
REFERENCE_PARAMETERS = 1.3e9
LARGEST_RATE = 1e-3
BETAS = {"dpo": 0.1, "ipo": 0.1, "kto": 0.1, "orpo": 0.1, "simpo": 2.0, "grpo": 0.0, "reward": 0.0}
"""Objective -> what `beta` is unless it is given: those of the papers, and for grpo that of DAPO and TRL."""


@dataclass(frozen=True, kw_only=True)
class AlignConfig(WatchConfig, LoraSettings):
    """What `mamba-slm align` can be told. The settings of an adapter stand beside those of the run."""

    model: str = ""
    """Model folder, checkpoint or run to begin with."""

    objective: Objective = "dpo"
    """dpo, ipo, orpo, simpo: pairs of answers. kto: answers judged good or bad. reward: a model that scores answers,
    from pairs. grpo: prompts, and rewards for what the model answers."""

    data: tuple[str, ...] = ()
    """Pairs, judged answers or prompts: a file, a folder, a data set on the hub as OWNER/NAME, or prefs:NAME for a set
    of `mamba-slm prefs`; several are put together."""

    method: Literal["lora", "qlora", "full"] = "lora"
    """lora: train small matrices beside the frozen ones. qlora: the same over matrices of 4 bits. full: all weights."""

    form: str | None = None
    """How the records are written: preference, hh-rlhf, kto, prompt, … Unset: told by the records."""

    split: str | None = None
    """Part of a data set that has several. Unset: the one for training."""

    limit: int | None = None
    """Read at most so many examples of each source. Unset: all."""

    validation: str | None = None
    """Held-out examples: a file, folder or data set. Unset: some of `data`, chosen by the hash of their prompts."""

    validation_share: float = 0.1
    """Share of the prompts held out when `validation` is unset, in [0, 0.5]; 0 means no validation."""

    template: str = "auto"
    """Chat template: auto (the model's own, else ChatML), chatml, or a file with Jinja text."""

    too_long: Literal["drop", "cut", "refuse"] = "drop"
    """An example longer than the context: left out, cut off at its end, or an error."""

    context_tokens: int | None = None
    """Most tokens of a prompt with its answer. Unset: the model's context, at most 1024."""

    beta: float | None = None
    """How closely the model is held to where it began (dpo, ipo, kto, grpo), or the weight of the preference (orpo,
    simpo). Unset: 0.1; simpo 2; grpo 0, which needs no reference."""

    gamma: float = 1.0
    """Margin by which simpo wants the chosen answer to win, before the logistic function."""

    label_smoothing: float = 0.0
    """Share of the pairs whose preference is wrong, in [0, 0.5), for dpo (its robust form)."""

    good_weight: float = 1.0
    """Weight of good answers in kto."""

    bad_weight: float = 1.0
    """Weight of bad answers in kto."""

    reference: str | None = None
    """Another model to be held to by dpo, ipo and kto. Unset: the model itself as it was before training."""

    reward: tuple[str, ...] = ()
    """What grpo rewards, added up: math, code, format=REGEX, length=TOKENS, FILE.py:FUNCTION, or the run or folder of a
    reward model."""

    reward_weights: tuple[float, ...] = ()
    """A weight for each reward, separated by commas. Unset: 1 each."""

    group: int = 8
    """Answers of grpo to each prompt, which are compared with each other."""

    max_new_tokens: int = 256
    """Most tokens of an answer of grpo."""

    temperature: float = 1.0
    """Of the answers of grpo; training takes it into account."""

    clip: float = 0.2
    """Of grpo: no token pushes on once its probability has changed by this share."""

    updates: int = 1
    """Passes of grpo over the same answers before new ones are drawn."""

    scale_rewards: bool = True
    """Divide what grpo compares by the standard deviation of its group."""

    show_rollouts: int = 2
    """Answers of grpo that are shown with their rewards at each line of progress; all are in RUN/rollouts.jsonl."""

    epochs: float = 1.0
    """Passes over the data, unless max_steps ends the run before."""

    batch_examples: int = 16
    """Pairs, judged answers or (grpo) prompts of an optimiser step."""

    micro_batch_rows: int | None = None
    """Answers that go through the model at once; fewer need less memory. Unset: 2k tokens on a CPU, else 8k."""

    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    """adamw8bit: moments of a byte instead of four (extra bnb)."""

    learning_rate: float | None = None
    """Peak of the schedule. Unset: by objective, method and size of the model, which is said."""

    schedule: ScheduleName = "cosine"
    """Shape after the warm-up: cosine, wsd (stable, then linear decay) or constant."""

    warmup_share: float = 0.1
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
    """How --method lora holds the frozen weights. auto: bf16 where the arithmetic is, too, else fp32."""

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
        at_least = {
            "context_tokens": 2, "batch_examples": 1, "micro_batch_rows": 1, "limit": 1, "weight_decay": 0,
            "benchmark_every_steps": 1, "benchmark_limit": 1,
            "clip_norm": 0, "group": 2, "max_new_tokens": 1, "updates": 1, "show_rollouts": 0,
        }  # fmt: skip
        for name, least in at_least.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name} must be at least {least}, got {value}")
        for name in ("epochs", "temperature", "clip", "good_weight", "bad_weight"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be > 0, got {getattr(self, name):g}")
        if not 0 <= self.validation_share <= 0.5:
            raise ConfigError(f"validation_share must lie in [0, 0.5], got {self.validation_share}")
        if not 0 <= self.label_smoothing < 0.5:
            raise ConfigError(f"label_smoothing must lie in [0, 0.5), got {self.label_smoothing}")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        self.require_sense()
        self.run_schedule(peak=1.0)

    def require_sense(self) -> None:
        """Refuse settings that this objective would not honour.

        Raises:
            ConfigError: names the setting and what it is for.
        """
        only_for = {
            "label_smoothing": ("dpo",), "reference": HAS_REFERENCE, "gamma": ("simpo",), "good_weight": ("kto",),
            "bad_weight": ("kto",), "reward": ("grpo",), "reward_weights": ("grpo",), "group": ("grpo",),
            "clip": ("grpo",), "updates": ("grpo",), "scale_rewards": ("grpo",),
        }  # fmt: skip
        defaults = {field.name: field.default for field in fields(type(self))}
        for name, objectives in only_for.items():
            if getattr(self, name) != defaults[name] and self.objective not in objectives:
                raise ConfigError(
                    f"{name} is a setting of {' and '.join(objectives)}, and {self.objective} has no use for it",
                    hint=f"leave it out, or align with {objectives[0]}",
                )
        if self.beta is not None and (self.beta < 0 or (self.beta == 0 and self.objective != "grpo")):
            raise ConfigError(f"beta must be > 0 (for grpo also 0), got {self.beta:g}")
        if self.objective == "reward" and self.beta is not None:
            raise ConfigError("a reward model has no beta", hint="leave it out")
        if self.reward_weights and len(self.reward_weights) != len(self.reward):
            raise ConfigError(f"{len(self.reward)} rewards have {len(self.reward_weights)} weights")
        if self.objective == "reward" and self.benchmarks:
            raise ConfigError("a reward model answers nothing that benchmarks could ask", hint="leave out --benchmarks")
        if self.objective == "reward" and self.method == "qlora":
            raise ConfigError("reward models are trained with lora or in full", hint="--method lora")
        on_the_head = [name for name in self.target_names if name in MODULE_NAMES and self.method != "full"]
        if on_the_head:
            raise ConfigError(
                f"alignment multiplies with the weight of the head itself, so an adapter on {on_the_head[0]} would not "
                "be trained",
                hint="leave head and embedding out of the targets",
            )

    @property
    def lora(self) -> LoraSettings:
        """The settings of the adapter by themselves."""
        return LoraSettings(**{field.name: getattr(self, field.name) for field in fields(LoraSettings)})

    @property
    def four_bit(self) -> FourBitSettings:
        """The settings of the base of QLoRA by themselves."""
        return FourBitSettings(format=self.base_format, double_quantization=self.double_quantization)

    @property
    def chosen_beta(self) -> float:
        """`beta`, or what the objective has for it."""
        return BETAS[self.objective] if self.beta is None else self.beta

    def peak_rate(self, parameters: int) -> tuple[float, str]:
        """The peak of the learning rate, and why.

        Args:
            parameters: of the model.
        """
        if self.learning_rate is not None:
            return self.learning_rate, "asked for"
        base = RATES[self.objective] * (SHARE_IN_FULL if self.method == "full" else 1.0)
        rate = base * (REFERENCE_PARAMETERS / parameters) ** 0.5
        reason = (
            f"{self.objective} with {self.method} at {format_count(parameters)} parameters: {base:g} · "
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
