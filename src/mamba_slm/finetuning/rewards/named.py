"""Rewards by what one types: math, format=REGEX, length=TOKENS, code, FILE.py:FUNCTION."""

from __future__ import annotations

from pathlib import Path

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.core.values import parse_value
from mamba_slm.finetuning.rewards.code import Code
from mamba_slm.finetuning.rewards.form import Form, Length
from mamba_slm.finetuning.rewards.math_answer import MathAnswer
from mamba_slm.finetuning.rewards.own_function import load_function
from mamba_slm.finetuning.rewards.rollout import Reward

NAMES = ("math", "format", "length", "code", "FILE.py:FUNCTION")


def reward_named(text: str) -> Reward:
    """The reward that `text` names.

    >>> reward_named("length=64").name, reward_named("format=[0-9]+").name
    ('length', 'format')

    Raises:
        UnknownNameError: no reward of this name.
        ConfigError: a value that the reward cannot take, or one where it takes none.
        UsageError: see `load_function`.
    """
    file, colon, function = text.rpartition(":")
    if colon and file.endswith(".py"):
        return load_function(Path(file), function)
    name, equals, value = text.partition("=")
    if name == "format":
        return Form(value) if equals else Form()
    if name == "length":
        if not equals:
            raise ConfigError("the reward 'length' needs a number of tokens", hint="for example length=64")
        return Length(parse_value(int, value))
    if name in ("math", "code"):
        if equals:
            raise ConfigError(f"the reward {name!r} takes no value, got {value!r}", hint=f"--reward {name}")
        return MathAnswer() if name == "math" else Code()
    raise UnknownNameError("reward", text, NAMES)
