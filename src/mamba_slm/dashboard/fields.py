"""Texts of a form in a request, and the words that people type as a terminal would take them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from mamba_slm.core.errors import ConfigError

MOST_CHARACTERS = 4000


def texts_of(body: Mapping[str, Any], known: Sequence[str]) -> dict[str, str]:
    """The fields of a form, without space around them.

    Raises:
        ConfigError: a field is unknown, no text or too long.
    """
    for key, value in body.items():
        if key not in known:
            raise ConfigError(f"the form has no field {key[:40]!r}")
        if not isinstance(value, str) or len(value) > MOST_CHARACTERS or "\0" in value:
            raise ConfigError(f"{key} must be a text of at most {MOST_CHARACTERS} characters")
    return {key: value.strip() for key, value in body.items()}


def argument(text: str, what: str) -> str:
    """A text that stands where a command expects a name or a path.

    Raises:
        ConfigError: nothing, or what a command would read as an option.
    """
    if not text:
        raise ConfigError(f"{what} is missing")
    if text.startswith("-"):
        raise ConfigError(f"{text[:60]!r} would be read as an option", hint=f"write the path as ./{text[:60]}")
    return text


def further(text: str, *, refused: Sequence[str]) -> list[str]:
    """Further flags as words.

    Args:
        refused: flags that this form has no use for.

    Raises:
        ConfigError: an open quote, or a refused flag.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"the further settings end in the middle of a quote: {error}") from error
    for word in words:
        if word.partition("=")[0].replace("_", "-") in refused:
            raise ConfigError(f"{word} is not for this form", hint="type that command in a terminal")
    return words
