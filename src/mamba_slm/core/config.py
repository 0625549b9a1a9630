"""One frozen dataclass is the whole schema of a command: its YAML keys, its flags and its Python arguments.

    fields  --fields_of-->  Setting(name, type, default, doc, choices)
    mapping --from_dict-->  config  --to_dict-->  mapping          (strict: unknown keys and wrong types are errors)
    defaults < preset < --config < flags  --resolve-->  config, and where each value came from

Field types: bool, int, float, str, Path, Literal, Optional and other unions, tuples, dict, nested dataclasses, and
`Annotated[float, parse_seconds]`, where a callable in the annotation reads the text form of the value.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import MISSING
from pathlib import Path
from typing import Any, TypeVar

from mamba_slm.core.deprecation import renamed_settings, warn_deprecated
from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.core.flags import add_flags, flag_of, flags_given
from mamba_slm.core.schema import Setting, dotted_names, fields_of, nested_config
from mamba_slm.core.values import coerce, located, parse_value, shown
from mamba_slm.core.yaml_files import load_yaml

__all__ = [
    "DEFAULT",
    "Setting",
    "add_flags",
    "fields_of",
    "flags_given",
    "from_dict",
    "load_yaml",
    "parse_value",
    "resolve",
    "to_dict",
]

T = TypeVar("T")
DEFAULT = "default"


def to_dict(config: Any) -> dict[str, Any]:
    """A mapping of JSON and YAML values: nested configs become dicts, tuples lists, paths strings."""
    return {field.name: plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def plain(value: Any) -> Any:
    """`to_dict` for any value inside a config."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def from_dict(cls: type[T], mapping: Mapping[str, Any], *, where: str = "settings") -> T:
    """Build a config from a mapping; the inverse of `to_dict`.

    Raises:
        UnknownNameError: a key is no setting; names the nearest one.
        ConfigError: a value has the wrong type or a required setting is missing; names `where` and the key.
    """
    return build(cls, checked(cls, mapping, where), where=where)


def resolve(cls: type[T], layers: list[tuple[str, dict[str, Any]]]) -> tuple[T, dict[str, str]]:
    """Merge layers of settings, the later over the earlier, over the defaults.

    Returns the config and, for every setting (dotted for nested ones), the name of the layer it came from; "default"
    where no layer names it. A layer read by `load_yaml` is reported with file and line.

    Raises:
        UnknownNameError, ConfigError: as `from_dict`; the message starts with the layer or with file:line.
    """
    merged: dict[str, Any] = {}
    origins = dict.fromkeys(dotted_names(cls), DEFAULT)
    for name, mapping in layers:
        merge(merged, checked(cls, mapping, name), name, origins, prefix="")
    return build(cls, merged, where=layers[-1][0] if layers else "settings"), origins


def merge(into: dict[str, Any], layer: Mapping[str, Any], name: str, origins: dict[str, str], prefix: str) -> None:
    """Put `layer` over `into`, key by key inside nested settings, and note `name` as the origin."""
    for key, value in layer.items():
        if isinstance(value, Mapping) and any(origin.startswith(f"{prefix}{key}.") for origin in origins):
            nested = into.get(key)
            into[key] = dict(nested) if isinstance(nested, Mapping) else {}
            merge(into[key], value, name, origins, f"{prefix}{key}.")
        else:
            into[key] = value
            origins[prefix + key] = name


def checked(cls: type, mapping: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The mapping with every key known and every value in its type; nested settings stay dicts, so layers can merge."""
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"{where}: expected settings (name: value), got {shown(mapping)}")
    settings = {setting.name: setting for setting in fields_of(cls)}
    old_names = renamed_settings(cls)
    places = getattr(mapping, "places", {})
    values: dict[str, Any] = {}
    for key, value in mapping.items():
        place = places.get(key, where)
        name = str(key).replace("-", "_")
        if name in old_names:
            warn_deprecated(f"setting {key!r}", use=repr(old_names[name].to), ends=old_names[name].ends)
            name = old_names[name].to
        if name not in settings:
            raise located(UnknownNameError("setting", str(key), settings), place)
        nested = nested_config(settings[name].type)
        if nested is not None and isinstance(value, Mapping):
            values[name] = checked(nested, value, f"{place}: {name}" if place == where else place)
        else:
            values[name] = coerce(settings[name].type, value, f"{place}: {name}")
    return values


def build(cls: type[T], values: Mapping[str, Any], *, where: str, base: Any = None) -> T:
    """Construct `cls` from checked values; `base` supplies what they leave out, else the defaults do."""
    arguments = {}
    for setting in fields_of(cls):
        if setting.name not in values:
            if setting.default is MISSING and base is None:
                flag = flag_of(setting.name)
                raise ConfigError(f"{where}: setting {setting.name!r} is missing", hint=f"give it, for example {flag}")
            continue
        value = values[setting.name]
        nested = nested_config(setting.type)
        if nested is not None and isinstance(value, Mapping):
            inner_base = getattr(base, setting.name) if base is not None else setting.default
            inner_base = inner_base if isinstance(inner_base, nested) else None
            value = build(nested, value, where=f"{where}: {setting.name}", base=inner_base)
        arguments[setting.name] = value
    return dataclasses.replace(base, **arguments) if base is not None else cls(**arguments)
