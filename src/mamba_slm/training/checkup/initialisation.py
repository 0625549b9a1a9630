"""Whether fresh weights are what `model/init.py` says they are: mean, standard deviation and range of every tensor.

The bounds are five standard errors of the mean and of the standard deviation, so that chance fails one tensor in a
million, and a rule that was forgotten or applied twice fails always.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mamba_slm.model.init import EMBEDDING_STD, LARGEST_DECAY, LARGEST_STEP, SMALLEST_DECAY, SMALLEST_STEP, STEP_FLOOR
from mamba_slm.model.pattern import plugin_letters_in
from mamba_slm.model.stack import LanguageModel
from mamba_slm.training.distributed.finding import Finding

ERRORS = 5.0
MOST_NAMED = 3
BACK_TO_THE_STREAM = ("o_proj", "out_proj", "down_proj")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What the values of a tensor are drawn from."""

    rule: str
    mean: float
    std: float
    low: float = -math.inf
    high: float = math.inf
    kurtosis: float = 1.8
    """Fourth moment over the square of the second; 1.8 for uniform, 3 for normal values."""


def uniform(low: float, high: float, rule: str) -> Rule:
    """A rule of equal chances between two ends."""
    return Rule(rule=rule, mean=(low + high) / 2, std=(high - low) / math.sqrt(12), low=low, high=high)


def constant(value: float) -> Rule:
    """A rule without chance."""
    return Rule(rule=f"all {value:g}", mean=value, std=0.0, low=value, high=value)


def rule_of(name: str, tensor: Tensor, num_sublayers: int) -> Rule | None:
    """The rule for a parameter; None for one that has none, such as those of a later version."""
    words = name.split(".")
    last = words[-1]
    if words[0] in ("embedding", "position_embedding", "lm_head"):
        return Rule(rule=f"normal(0, {EMBEDDING_STD})", mean=0.0, std=EMBEDDING_STD, kurtosis=3.0)
    if last == "D" or "norm" in words[-2:][0] or "norm" in last:
        return constant(1.0)
    if last == "A_log":  # of log(u), u uniform: known moments
        return moments_of_log(SMALLEST_DECAY, LARGEST_DECAY)
    if last == "dt_bias":  # judged as log(softplus(·)), see `values_of`
        return uniform(math.log(SMALLEST_STEP), math.log(LARGEST_STEP), "log of a step size, uniform")
    if last in ("conv_weight", "conv_bias"):
        return None  # the bound is that of the weight's taps, for both; see `conv_rule`
    if tensor.ndim == 2:
        bound = 1 / math.sqrt(tensor.shape[1])
        if words[-2] in BACK_TO_THE_STREAM:
            bound /= math.sqrt(num_sublayers)
        return uniform(-bound, bound, f"uniform(±{bound:.3g})")
    return None


def moments_of_log(low: float, high: float) -> Rule:
    """The rule of log(u), u uniform between two positive ends."""

    def power(n: int) -> float:
        """Mean of log(u) ** n, from the antiderivative u (log(u) ** n − n · …)."""
        if n == 0:
            return 1.0
        ends = (high * math.log(high) ** n - low * math.log(low) ** n) / (high - low)
        return ends - n * power(n - 1)

    mean = power(1)
    return Rule(
        rule=f"log of uniform({low:g}, {high:g})",
        mean=mean,
        std=math.sqrt(power(2) - mean**2),
        low=math.log(low),
        high=math.log(high),
        kurtosis=4.0,
    )


def values_of(name: str, tensor: Tensor) -> Tensor:
    """What the rule speaks of."""
    values = tensor.detach().float().flatten()
    if name.endswith("dt_bias"):
        return torch.nn.functional.softplus(values).clamp(min=STEP_FLOOR).log()
    return values


@torch.no_grad()
def deviation(name: str, tensor: Tensor, rule: Rule) -> str | None:
    """How the values differ from their rule, in words; None where they follow it."""
    values = values_of(name, tensor)
    n = values.numel()
    slack = 1e-4 * max(1.0, abs(rule.low) if math.isfinite(rule.low) else 1.0)
    if not bool(values.isfinite().all()):
        return "has values that are not finite"
    low, high = float(values.min()), float(values.max())
    if low < rule.low - slack or high > rule.high + slack:
        return f"lies in [{low:.3g}, {high:.3g}], expected [{rule.low:.3g}, {rule.high:.3g}]"
    mean, std = float(values.double().mean()), float(values.double().std(correction=0))
    if abs(mean - rule.mean) > ERRORS * rule.std / math.sqrt(n) + 1e-6:
        return f"has mean {mean:.3g}, expected {rule.mean:.3g}"
    if (
        n >= 8
        and abs(std - rule.std) > ERRORS * rule.std * math.sqrt((rule.kurtosis - 1) / (4 * n)) + rule.std / n + 1e-6
    ):
        return f"has standard deviation {std:.3g}, expected {rule.std:.3g}"
    return None


def judged(model: LanguageModel) -> Iterator[tuple[str, str | None]]:
    """Every parameter that has a rule, and how it differs from it."""
    taps = {
        name.rpartition(".")[0]: tensor for name, tensor in model.named_parameters() if name.endswith("conv_weight")
    }
    of_plugins = tuple(
        f"sublayers.{index}.mixer."
        for index, letter in enumerate(model.config.pattern)
        if letter in plugin_letters_in(model.config.pattern)
    )
    for name, tensor in model.named_parameters():
        if name.startswith(of_plugins):
            continue  # their rules are their own
        layer, _, last = name.rpartition(".")
        if last in ("conv_weight", "conv_bias"):
            bound = 1 / math.sqrt(taps[layer].shape[1])
            rule = uniform(-bound, bound, f"uniform(±{bound:.3g})")
        else:
            rule = rule_of(name, tensor, len(model.sublayers))
        if rule is not None:
            yield name, deviation(name, tensor, rule)


def check_initialisation(model: LanguageModel) -> Finding:
    """The finding about a model that was just built."""
    found = dict(judged(model))
    wrong = [f"{name} {what}" for name, what in found.items() if what is not None]
    if wrong:
        more = f"; and {len(wrong) - MOST_NAMED} more" if len(wrong) > MOST_NAMED else ""
        return Finding(
            name="weights",
            status="fail",
            text=f"{len(wrong)} of {len(found)} tensors are not what their rule gives: "
            + "; ".join(wrong[:MOST_NAMED]) + more,
            hint="model/init.py has the rules; a run from such weights learns slowly or diverges",
        )  # fmt: skip
    scale = f"; projections back to the stream by 1/√{len(model.sublayers)}"
    return Finding(
        name="weights",
        text=f"{len(found)} tensors have the mean, deviation and range of their rules (embedding {EMBEDDING_STD:g}"
        f"{scale if model.sublayers else ''}; decay rates {SMALLEST_DECAY:g} to {LARGEST_DECAY:g}, "
        f"steps {SMALLEST_STEP:g} to {LARGEST_STEP:g})",
        measured={"tensors": float(len(found))},
    )
