"""Values of settings: from text as people write it, and from YAML or JSON with the type checked."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.core.schema import is_union, nested_config
from mamba_slm.core.units import parse_count

BOOL_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def parse_value(hint: Any, text: str) -> Any:
    """Read a value from the text of a flag.

    int reads 512k, 1.3B and 64Ki; float also reads 50%; bool reads yes/no, on/off, true/false, 1/0; an Optional reads
    "none"; a tuple of numbers is separated by commas, a tuple of strings is one item (repeat the flag for more).

    >>> parse_value(int, "512k"), parse_value(float, "50%"), parse_value(tuple[float, float], "0.9,0.95")
    (512000, 0.5, (0.9, 0.95))

    Raises:
        ConfigError: the text is no value of that type; UnknownNameError for a Literal, naming the nearest choice.
    """
    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        reader = next((extra for extra in members[1:] if callable(extra)), None)
        return reader(text) if reader is not None else parse_value(members[0], text)
    if is_union(hint):
        if types.NoneType in members and text.strip().lower() in ("none", "null"):
            return None
        given = tuple(member for member in members if member is not types.NoneType)
        return parse_bool(text) if given == (bool,) else coerce_union(given, text, "value")
    if origin is Literal:
        by_text = {str(member): member for member in members}
        if text not in by_text:
            raise UnknownNameError("value", text, by_text)
        return by_text[text]
    if origin is tuple:
        item_types = set(members) - {Ellipsis}
        pieces = [text] if item_types <= {str, Path} else [piece.strip() for piece in text.split(",") if piece.strip()]
        return coerce(hint, pieces, "value")
    readers: dict[Any, Callable[[str], Any]] = {
        int: parse_count,
        float: parse_float,
        bool: parse_bool,
        str: str,
        Path: Path,
    }
    if hint not in readers:
        raise ConfigError(f"expected {type_name(hint)}, got {shown(text)}", hint="set it in a --config file")
    return readers[hint](text)


def parse_float(text: str) -> float:
    """Read a number, a percentage or a count with a suffix; never NaN or infinity."""
    cleaned = text.strip()
    percent = cleaned.endswith("%")
    try:
        value = float(cleaned.rstrip("%").strip()) / (100 if percent else 1)
    except ValueError:
        try:
            value = float(parse_count(cleaned))
        except ConfigError:
            raise ConfigError(f"{text!r} is not a number", hint="write 0.1, 3e-4 or 50%") from None
    return finite(value, "value")


def parse_bool(text: str) -> bool:
    """Read yes/no, on/off, true/false, 1/0."""
    word = text.strip().lower()
    if word not in BOOL_WORDS:
        raise ConfigError(f"{text!r} is neither true nor false", hint="write true or false")
    return BOOL_WORDS[word]


def coerce(hint: Any, value: Any, place: str) -> Any:
    """The value in the type of its setting, or an error that starts with `place`.

    Text is accepted where a number is expected, because YAML reads 3e-4 and 512k as text.
    """
    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        reads_text = isinstance(value, str) and any(callable(extra) for extra in members[1:])
        return parse_at(hint, value, place) if reads_text else coerce(members[0], value, place)
    if is_union(hint):
        return coerce_union(members, value, place)
    if origin is Literal:
        if any(value == member and type(value) is type(member) for member in members):
            return value
        return parse_at(hint, str(value), place)
    if origin is tuple and isinstance(value, list | tuple):
        items = members[:1] * len(value) if members[-1] is Ellipsis else members
        if len(items) != len(value):
            raise ConfigError(f"{place}: expected {len(items)} values, got {len(value)}: {shown(value)}")
        return tuple(coerce(item, element, place) for item, element in zip(items, value, strict=True))
    if hint is Any or (hint in (bool, str, int, dict, types.NoneType) and type(value) is hint):
        return value
    if origin in (dict, Mapping) and isinstance(value, Mapping):
        return {coerce(members[0], key, place): coerce(members[1], item, place) for key, item in value.items()}
    if hint is float and type(value) in (int, float):
        return finite(float(value), place)
    if hint is int and type(value) is float and value.is_integer():
        return int(value)
    if hint is Path and isinstance(value, Path):
        return value
    if isinstance(value, str) and hint is not bool:
        return parse_at(hint, value, place)
    if nested_config(hint) is hint and isinstance(value, hint):
        return value
    raise ConfigError(f"{place}: expected {type_name(hint)}, got {shown(value)}")


def coerce_union(members: tuple[Any, ...], value: Any, place: str) -> Any:
    """The first member of a union that takes the value; text is tried as text last, so "512" may be a number."""
    if value is None and types.NoneType in members:
        return None
    members = tuple(member for member in members if member is not types.NoneType)
    same = [member for member in members if type(value) is member and member is not str]
    errors = []
    for member in dict.fromkeys([*same, *(m for m in members if m is not str), *members]):
        try:
            return coerce(member, value, place)
        except ConfigError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    raise ConfigError(f"{place}: expected {' or '.join(map(type_name, members))}, got {shown(value)}")


def parse_at(hint: Any, text: str, place: str) -> Any:
    """`parse_value` whose error starts with `place`."""
    try:
        return parse_value(hint, text)
    except ConfigError as error:
        raise located(error, place) from error


def finite(value: float, place: str) -> float:
    """The value, unless it is NaN or infinite."""
    if not math.isfinite(value):
        raise ConfigError(f"{place}: expected a finite number, got {value}")
    return value


def located(error: ConfigError, place: str) -> ConfigError:
    """The same error with its place in front of the message."""
    error.message = f"{place}: {error.message.removeprefix('value: ')}"
    error.args = (error.message,)
    return error


def shown(value: Any) -> str:
    """A value in an error message, shortened."""
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '…'} ({type(value).__name__})"


def type_name(hint: Any) -> str:
    """The name of a type as a user would say it."""
    names = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        Path: "a path",
        dict: "a mapping",
    }
    if hint in names:
        return names[hint]
    if hint is types.NoneType:
        return "none"
    if typing.get_origin(hint) is Literal:
        return " or ".join(map(str, typing.get_args(hint)))
    if is_union(hint):
        return " or ".join(type_name(member) for member in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return (
            f"a list of {' and '.join(type_name(m) for m in dict.fromkeys(typing.get_args(hint)) if m is not Ellipsis)}"
        )
    return getattr(hint, "__name__", str(hint))
