"""Flags of a command from the fields of its config dataclass."""

from __future__ import annotations

import argparse
import types
import typing
from dataclasses import MISSING
from pathlib import Path
from typing import Annotated, Any, Literal

from mamba_slm.core.deprecation import Renamed, renamed_settings, warn_deprecated
from mamba_slm.core.schema import fields_of, is_union, nested_config
from mamba_slm.core.values import parse_at

DESTINATION = "setting."  # prefix in the argparse namespace, so that a command's own arguments never collide


def flag_of(name: str) -> str:
    """The command-line spelling of a setting: `batch_tokens` is `--batch-tokens`."""
    return "--" + name.replace("_", "-")


class SettingAction(argparse.Action):
    """Store a setting read from text under its place in the config; names the flag when the text does not fit."""

    def __init__(self, *, hint: Any, **arguments: Any):
        super().__init__(**arguments)
        self.hint = hint

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        value = parse_at(self.hint, values, option_string or self.dest)
        earlier = getattr(namespace, self.dest, None)
        if isinstance(value, tuple) and isinstance(earlier, tuple) and Ellipsis in typing.get_args(self.hint):
            value = earlier + value
        setattr(namespace, self.dest, value)


class OldFlagAction(argparse.Action):
    """A flag under its old name: warns, and then is the new one."""

    def __init__(self, *, today: argparse.Action, renamed: Renamed, **arguments: Any):
        super().__init__(**arguments)
        self.today, self.renamed = today, renamed

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        word = option_string or self.option_strings[0]
        use = flag_of(self.renamed.to)
        if word.startswith("--no-"):
            use = use.replace("--", "--no-", 1)
        warn_deprecated(word, use=use, ends=self.renamed.ends)
        self.today(parser, namespace, values, use)


def add_flags(parser: argparse._ActionsContainer, cls: type, *, skip: tuple[str, ...] = (), prefix: str = "") -> None:
    """Add one flag per setting, its docstring as help; nested settings become `--outer.inner`.

    `skip` names settings (dotted) that the command takes in another way. `--a_b` is accepted for `--a-b` by
    `mamba_slm.cli.main`, which spells every option with dashes before parsing.
    """
    added: dict[str, argparse.Action] = {}
    for setting in fields_of(cls):
        name = prefix + setting.name
        if name in skip:
            continue
        nested = nested_config(setting.type)
        if nested is not None:
            add_flags(parser, nested, skip=skip, prefix=f"{name}.")
            continue
        help_text = f"{setting.doc} {default_note(setting.default)}".strip().replace("%", "%%")
        dest = DESTINATION + name
        if setting.type is bool:
            added[setting.name] = parser.add_argument(
                flag_of(name),
                dest=dest,
                action=argparse.BooleanOptionalAction,
                default=argparse.SUPPRESS,
                help=help_text,
            )
        else:
            added[setting.name] = parser.add_argument(
                flag_of(name),
                dest=dest,
                action=SettingAction,
                hint=setting.type,
                metavar=metavar_of(setting.type),
                default=argparse.SUPPRESS,
                help=help_text,
            )
    for old, renamed in renamed_settings(cls).items():
        if renamed.to in added:
            add_old_flag(parser, prefix + old, added[renamed.to], renamed)


def add_old_flag(parser: argparse._ActionsContainer, name: str, today: argparse.Action, renamed: Renamed) -> None:
    """The old name of a flag, which no help shows."""
    words = [flag_of(name)] if today.nargs != 0 else [flag_of(name), flag_of(f"no_{name}")]
    parser.add_argument(
        *words,
        dest=today.dest,
        action=OldFlagAction,
        nargs=today.nargs,
        today=today,
        renamed=renamed,
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )


def default_note(value: Any) -> str:
    """The default in brackets, as one would type it; nothing where no value is the default.

    >>> default_note(0.5), default_note((1, 2)), default_note(None), default_note(MISSING)
    ('(default: 0.5)', '(default: 1,2)', '', '(required)')
    """
    if value is MISSING:
        return "(required)"
    if value is None or value == ():
        return ""
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return f"(default: {text.lower() if isinstance(value, bool) else text})"


def metavar_of(hint: Any) -> str:
    """The placeholder of a flag's value in help: N, X, TEXT, PATH or the choices."""
    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "|".join(map(str, members))
    if is_union(hint):
        return "|".join(dict.fromkeys(metavar_of(member) for member in members if member is not types.NoneType))
    if origin in (Annotated, tuple):
        return metavar_of(members[0])
    return {int: "N", float: "X", str: "TEXT", Path: "PATH", bool: "true|false"}.get(hint, "VALUE")


def flags_given(args: argparse.Namespace, cls: type, *, prefix: str = "") -> dict[str, Any]:
    """The settings that were given as flags, nested like the config; the last layer for `resolve`."""
    given: dict[str, Any] = {}
    for setting in fields_of(cls):
        name = prefix + setting.name
        nested = nested_config(setting.type)
        if nested is not None:
            inner = flags_given(args, nested, prefix=f"{name}.")
            if inner:
                given[setting.name] = inner
        elif hasattr(args, DESTINATION + name):
            given[setting.name] = getattr(args, DESTINATION + name)
    return given
