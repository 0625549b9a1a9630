"""What a config that somebody else wrote may ask of us: a short file must not come out as a model without end."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from mamba_slm.core.errors import ConfigError
from mamba_slm.model.config import ModelConfig

MOST_SUBLAYERS = 4000
MOST_SIZE = 2**40


def require_pattern(pattern: object) -> None:
    """Refuse a pattern that would expand to more sublayers than anybody has.

    Raises:
        ConfigError: it has more than `MOST_SUBLAYERS`, or is no text.
    """
    if not isinstance(pattern, str):
        raise ConfigError("the layer pattern is no text")
    repeats = re.findall(r"\D(\d*)", pattern[: 2 * MOST_SUBLAYERS])
    is_long = len(pattern) > MOST_SUBLAYERS or any(len(digits) > 4 for digits in repeats)
    if is_long or sum(int(digits or 1) for digits in repeats) > MOST_SUBLAYERS:
        raise ConfigError(f"a layer pattern of this length is not shown: {pattern[:40]!r} …")


def require_layers(values: Mapping[str, Any], key: str) -> None:
    """The same for a number of layers.

    Raises:
        ConfigError: it is above `MOST_SUBLAYERS`.
    """
    if isinstance(values.get(key), int) and values[key] > MOST_SUBLAYERS:
        raise ConfigError(f"{key} is more than {MOST_SUBLAYERS:,}")


def sensible(config: ModelConfig) -> ModelConfig:
    """The config itself.

    Raises:
        ConfigError: a size is no number of its kind, or beyond anything that exists.
    """
    require_pattern(config.pattern)
    for field in fields(config):
        value = getattr(config, field.name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if field.type == "int" and not (is_number and isinstance(value, int) and value <= MOST_SIZE):
            raise ConfigError(f"{field.name} is no sensible number: {str(value)[:40]}")
        if field.type == "float" and not (is_number and abs(value) <= MOST_SIZE and math.isfinite(value)):
            raise ConfigError(f"{field.name} is no sensible number: {str(value)[:40]}")
    return config
