"""Rewards for how an answer looks: a pattern that it must match, a length that it should have."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mamba_slm.core.errors import ConfigError
from mamba_slm.finetuning.rewards.rollout import Rollout

THINK_THEN_ANSWER = r"\s*<think>((?!</?think>).)*</think>\s*<answer>((?!</?answer>).)*</answer>\s*"
"""The form of DeepSeek-R1 (arXiv:2501.12948): each tag once."""


class Form:
    """1.0 where the whole answer matches a regular expression, else 0.0. A dot matches line ends, too."""

    name = "format"

    def __init__(self, pattern: str = THINK_THEN_ANSWER):
        """
        Raises:
            ConfigError: no regular expression.
        """
        try:
            self.pattern = re.compile(pattern, re.DOTALL)
        except re.error as error:
            raise ConfigError(f"the format {pattern!r} is no regular expression: {error}") from error

    def check(self, rollouts: Sequence[Rollout]) -> None:
        """Any prompt will do."""

    def score(self, rollouts: Sequence[Rollout]) -> list[float]:
        """1.0 or 0.0 each."""
        return [float(self.pattern.fullmatch(rollout.completion) is not None) for rollout in rollouts]


class Length:
    """1 - |n - target| / target, at least 0, for an answer of n tokens: a triangle with its top at the target."""

    name = "length"

    def __init__(self, target_tokens: int):
        """
        Raises:
            ConfigError: a target below 1.
        """
        if target_tokens < 1:
            raise ConfigError(f"the length to aim at must be at least 1 token, got {target_tokens}")
        self.target_tokens = target_tokens

    def check(self, rollouts: Sequence[Rollout]) -> None:
        """Any prompt will do."""

    def score(self, rollouts: Sequence[Rollout]) -> list[float]:
        """In [0, 1] each."""
        target = self.target_tokens
        return [max(0.0, 1.0 - abs(rollout.num_tokens - target) / target) for rollout in rollouts]
