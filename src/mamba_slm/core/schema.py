"""What a config dataclass says about itself: one `Setting` per field, with type, default, documentation and choices."""

from __future__ import annotations

import dataclasses
import functools
import sys
import types
import typing
from collections.abc import Iterator
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from mamba_slm.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One field of a config dataclass, as flags, docs and forms need it."""

    name: str
    """Field name; the flag is `--` with dashes for underscores."""

    type: Any
    """The resolved annotation, `Annotated` kept."""

    default: Any
    """The default value, or `dataclasses.MISSING` when the setting is required."""

    doc: str
    """The attribute docstring, whitespace folded; empty when there is none."""

    choices: tuple[Any, ...]
    """Allowed values of a `Literal`, else empty."""


@functools.cache
def fields_of(cls: type) -> tuple[Setting, ...]:
    """The settings of a config dataclass in order of declaration. Docstrings are read from the source file.

    Raises:
        ConfigError: `cls` is not a dataclass.
    """
    if not dataclasses.is_dataclass(cls):
        raise ConfigError(f"{cls!r} is not a dataclass")
    hints = typing.get_type_hints(cls, include_extras=True)
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        docs |= attribute_docstrings(base)
    settings = []
    for field in dataclasses.fields(cls):
        default = field.default
        if default is MISSING and field.default_factory is not MISSING:
            default = field.default_factory()
        settings.append(
            Setting(
                name=field.name,
                type=hints[field.name],
                default=default,
                doc=docs.get(field.name, ""),
                choices=choices_of(hints[field.name]),
            )
        )
    return tuple(settings)


def attribute_docstrings(cls: type) -> dict[str, str]:
    """Field name -> the string literal that follows the field in the class body. Empty when there is no source."""
    import ast

    module = sys.modules.get(cls.__module__)
    source_file = getattr(module, "__file__", None)
    if not source_file or not source_file.endswith(".py") or not Path(source_file).is_file():
        return {}
    found: dict[str, str] = {}
    for node in ast.walk(parsed_source(source_file)):
        if not isinstance(node, ast.ClassDef) or node.name != cls.__name__:
            continue
        for statement, following in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and isinstance(following, ast.Expr)
                and isinstance(following.value, ast.Constant)
                and isinstance(following.value.value, str)
            ):
                found[statement.target.id] = " ".join(following.value.value.split())
    return found


@functools.cache
def parsed_source(path: str) -> Any:
    """The syntax tree of a Python file, parsed once per process."""
    import ast

    return ast.parse(Path(path).read_text(encoding="utf-8"))


def choices_of(hint: Any) -> tuple[Any, ...]:
    """The values of a `Literal`, also inside Optional and Annotated."""
    if typing.get_origin(hint) is Literal:
        return typing.get_args(hint)
    if typing.get_origin(hint) is Annotated:
        return choices_of(typing.get_args(hint)[0])
    if is_union(hint):
        return tuple(choice for member in typing.get_args(hint) for choice in choices_of(member))
    return ()


def is_union(hint: Any) -> bool:
    """Whether the annotation is `A | B` or `Optional[A]`."""
    return typing.get_origin(hint) in (Union, types.UnionType)


def nested_config(hint: Any) -> type | None:
    """The dataclass that a field holds, also inside Optional and Annotated; else None."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return hint
    if typing.get_origin(hint) is Annotated or is_union(hint):
        found = [nested_config(member) for member in typing.get_args(hint)]
        return next((cls for cls in found if cls is not None), None)
    return None


def dotted_names(cls: type, prefix: str = "") -> Iterator[str]:
    """Every setting of a config; those of a nested config as `outer.inner`."""
    for setting in fields_of(cls):
        nested = nested_config(setting.type)
        if nested is None:
            yield prefix + setting.name
        else:
            yield from dotted_names(nested, f"{prefix}{setting.name}.")
