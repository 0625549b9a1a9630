"""Samplers of plugins by name: steps that change logits, beside our own.

The entry point is a frozen dataclass whose fields are its settings, each with a default and a docstring, with one of

    filter(logits [b v]) -> logits [b v]            a `strategies.filters.Filter`
    process(logits [b v], history) -> logits        a `strategies.penalties.Processor`, which knows what was read

Rows are independent: what a row gets may depend on nothing but that row. A server does not offer them, because requests
would choose what code runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mamba_slm.core.config import fields_of, from_dict
from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.core.plugins import PluginError, find_plugin, load_plugin
from mamba_slm.core.values import parse_at

if TYPE_CHECKING:
    from mamba_slm.generation.sampling import Sampler


def named_sampler(text: str) -> Any:
    """A step from `NAME` or `NAME:SETTING=VALUE,SETTING=VALUE`.

    Raises:
        UnknownNameError: no such sampler or setting; names the nearest.
        ConfigError: a value is wrong.
        PluginError: the plugin does not load, or is no sampler.
    """
    name, _, words = text.partition(":")
    cls = sampler_class(name)
    types = {setting.name: setting.type for setting in fields_of(cls)}
    given = {}
    for word in filter(None, words.split(",")):
        key, equals, value = word.partition("=")
        key = key.strip().replace("-", "_")
        if not equals:
            raise ConfigError(
                f"{word!r} is not SETTING=VALUE", hint=f"for example --sampler {name}:{'=1,'.join(types)}=1"
            )
        if key not in types:
            raise UnknownNameError(f"setting of sampler {name}", key, types)
        given[key] = parse_at(types[key], value.strip(), f"--sampler {name}: {key}")
    return from_dict(cls, given, where=f"--sampler {name}")


def sampler_class(name: str) -> type[Any]:
    """The dataclass behind a name; errors as in `named_sampler`."""
    cls = load_plugin("samplers", name)
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls) and kind_of(cls)):
        raise PluginError(
            f"the sampler {name!r} of the plugin {find_plugin('samplers', name)} is no dataclass with filter or process"
        )
    return cls


def kind_of(step: Any) -> str | None:
    """ "processors" or "filters": where in a `Sampler` it belongs; None for something else."""
    if callable(getattr(step, "process", None)):
        return "processors"
    return "filters" if callable(getattr(step, "filter", None)) else None


def with_named(sampler: Sampler, texts: Sequence[str]) -> Sampler:
    """The sampler with further steps behind its own; errors as in `named_sampler`."""
    for text in texts:
        step = named_sampler(text)
        kind = kind_of(step)
        assert kind is not None
        sampler = dataclasses.replace(sampler, **{kind: (*getattr(sampler, kind), step)})
    return sampler
