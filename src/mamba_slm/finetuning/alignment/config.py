"""All settings of an alignment. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

from mamba_slm.core.errors import ConfigError
from mamba_slm.finetuning.adapters.settings import MODULE_NAMES
from mamba_slm.finetuning.tuning_config import TuningConfig

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
LARGEST_RATE = 1e-3
BETAS = {"dpo": 0.1, "ipo": 0.1, "kto": 0.1, "orpo": 0.1, "simpo": 2.0, "grpo": 0.0, "reward": 0.0}
"""Objective -> what `beta` is unless it is given: those of the papers, and for grpo that of DAPO and TRL."""


@dataclass(frozen=True, kw_only=True)
class AlignConfig(TuningConfig):
    """What `mamba-slm align` can be told."""

    objective: Objective = "dpo"
    """dpo, ipo, orpo, simpo: pairs of answers. kto: answers judged good or bad. reward: a model that scores answers,
    from pairs. grpo: prompts, and rewards for what the model answers."""

    data: tuple[str, ...] = ()
    """Pairs, judged answers or prompts: a file, a folder, a data set on the hub as OWNER/NAME, or prefs:NAME for a set
    of `mamba-slm prefs`; several are put together."""

    form: str | None = None
    """How the records are written: preference, hh-rlhf, kto, prompt, … Unset: told by the records."""

    validation: str | None = None
    """Held-out examples: a file, folder or data set. Unset: some of `data`, chosen by the hash of their prompts."""

    validation_share: float = 0.1
    """Share of the prompts held out when `validation` is unset, in [0, 0.5]; 0 means no validation."""

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

    batch_examples: int = 16
    """Pairs, judged answers or (grpo) prompts of an optimiser step."""

    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    """adamw8bit: moments of a byte instead of four (extra bnb)."""

    warmup_share: float = 0.1
    """Share of the run spent warming up, in [0, 1]."""

    def __post_init__(self) -> None:
        TuningConfig.__post_init__(self)
        least = {"context_tokens": 2, "batch_examples": 1, "group": 2, "max_new_tokens": 1, "updates": 1}
        self.require_at_least({**least, "show_rollouts": 0})
        for name in ("temperature", "clip", "good_weight", "bad_weight"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be > 0, got {getattr(self, name):g}")
        if not 0 <= self.label_smoothing < 0.5:
            raise ConfigError(f"label_smoothing must lie in [0, 0.5), got {self.label_smoothing}")
        self.require_sense()

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
    def chosen_beta(self) -> float:
        """`beta`, or what the objective has for it."""
        return BETAS[self.objective] if self.beta is None else self.beta

    def peak_rate(self, parameters: int) -> tuple[float, str]:
        """The peak of the learning rate, and why.

        Args:
            parameters: of the model.
        """
        base = RATES[self.objective] * (SHARE_IN_FULL if self.method == "full" else 1.0)
        return self.scaled_rate(base, f"{self.objective} with {self.method}", parameters, largest=LARGEST_RATE)
