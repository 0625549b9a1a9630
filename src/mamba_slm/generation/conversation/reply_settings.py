"""What `/set` changes: how the next reply is made."""

from __future__ import annotations

import dataclasses
import functools
import typing
from dataclasses import dataclass
from typing import Any

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.core.values import parse_at
from mamba_slm.generation.sampling import Sampler


@dataclass(frozen=True, kw_only=True)
class ReplySettings:
    """How a reply is made. The defaults are those of `mamba-slm chat`."""

    temperature: float = 0.8
    """0 is greedy, 1 neutral."""

    top_k: int | None = None
    """Draw among the K most likely tokens."""

    top_p: float | None = 0.95
    """Draw among the fewest tokens of this mass."""

    min_p: float | None = None
    """Leave out tokens below this share of the most likely one."""

    typical_p: float | None = None
    """Draw among the tokens of this mass that are as likely as one expects."""

    repetition_penalty: float | None = None
    """Above 1: tokens that were seen become less likely."""

    frequency_penalty: float | None = None
    """Taken from a token's logit for every time that it occurred."""

    presence_penalty: float | None = None
    """Taken from the logit of every token that occurred."""

    no_repeat_ngram_size: int | None = None
    """No run of this many tokens occurs twice."""

    max_new_tokens: int = 256
    """Longest reply."""

    seed: int = 0
    """Of the draws; turn i uses seed + i."""

    stops: tuple[str, ...] = ()
    """Strings that end a reply; not shown, but part of what the model has read."""

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        _ = self.sampler  # which refuses what is out of range

    @functools.cached_property
    def sampler(self) -> Sampler:
        """How the next token is drawn."""
        return Sampler.from_settings(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            typical_p=self.typical_p,
            repetition_penalty=self.repetition_penalty,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            no_repeat_ngram_size=self.no_repeat_ngram_size,
        )


def settable() -> dict[str, Any]:
    """Type of each setting that `/set` knows, by name."""
    hints = typing.get_type_hints(ReplySettings)
    return {one.name: hints[one.name] for one in dataclasses.fields(ReplySettings)}


def with_setting(settings: ReplySettings, name: str, text: str) -> ReplySettings:
    r"""The settings with one of them read from text; hyphens in the name count as underscores.

    >>> with_setting(ReplySettings(), "top-k", "40").top_k
    40
    >>> with_setting(ReplySettings(), "stops", r"\n\n").stops
    ('\n\n',)

    Raises:
        ConfigError: no such setting, or no such value.
    """
    known = settable()
    field_name = name.replace("-", "_")
    if field_name not in known:
        raise UnknownNameError("setting", name, known)
    if field_name == "stops":
        value: Any = () if text in ("none", "") else (text.replace("\\n", "\n").replace("\\t", "\t"),)
    else:
        value = parse_at(known[field_name], text, field_name)
    return dataclasses.replace(settings, **{field_name: value})


def described(settings: ReplySettings) -> str:
    """Every setting on a line of its own."""
    width = max(map(len, settable()))
    return "\n".join(f"{name:<{width}}  {shown(getattr(settings, name))}" for name in settable())


def shown(value: Any) -> str:
    """A value as one would type it."""
    if value is None or value == ():
        return "none"
    return ", ".join(repr(one)[1:-1] for one in value) if isinstance(value, tuple) else str(value)
