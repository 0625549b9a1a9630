"""An argument parser that never exits by itself, names the nearest option, and gives every command the global flags."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from mamba_slm.core.errors import ConfigError, UnknownNameError, UsageError
from mamba_slm.core.values import located

GLOBAL_FLAGS = {
    "--debug": "show the traceback of an error",
    "--quiet": "no progress and no remarks on stderr; errors still appear",
    "--offline": "turn any use of the network into an error",
}
"""Known to every command and subcommand, before or after its name."""


class Parser(argparse.ArgumentParser):
    """`argparse.ArgumentParser` whose mistakes are `UsageError`s; subcommand parsers are of this class, too.

    A command that can print JSON declares `--json` itself, so that no flag is accepted that is not honoured.
    """

    def __init__(self, **arguments: Any):
        arguments.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        arguments.setdefault("allow_abbrev", False)
        super().__init__(**arguments, conflict_handler="resolve", add_help=False)
        self._forms: dict[str, Parser] = {}
        shared = self.add_argument_group("global options")
        shared.add_argument("-h", "--help", action="help", default=argparse.SUPPRESS, help="show this help")
        for flag, meaning in GLOBAL_FLAGS.items():
            shared.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=meaning)

    def add_subparsers(self, **arguments: Any) -> Any:
        arguments.setdefault("dest", "subcommand")
        arguments.setdefault("metavar", "subcommand")
        arguments.setdefault("required", True)
        return super().add_subparsers(**arguments)

    def add_form(self, name: str, **arguments: Any) -> Parser:
        """The parser of a subcommand of a command that works without one, too: `bench MODEL` and `bench serve MODEL`.

        The words belong to it where the first that is no option is `name`; then `args.subcommand` is `name`, else None.
        """
        self._forms[name] = Parser(prog=f"{self.prog} {name}", **arguments)
        self.set_defaults(subcommand=None)
        return self._forms[name]

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Parse, but refuse what is left over: here it is known which command the words were meant for."""
        words = list(args or ())
        place = next((place for place, word in enumerate(words) if not word.startswith("-")), len(words))
        if words[place : place + 1] and words[place] in self._forms:
            found, extras = self._forms[words[place]].parse_known_args([*words[:place], *words[place + 1 :]], namespace)
            found.subcommand = words[place]
            return found, extras
        found, extras = super().parse_known_args(args, namespace)
        options = [word.split("=")[0] for word in extras if word.startswith("-") and word != "-"]
        if options:
            raise UnknownNameError(
                "option", options[0], self.option_names(), hint=f"{self.prog} --help lists the options"
            )
        if extras:
            raise UsageError(f"unexpected argument {extras[0]!r}", hint=f"{self.prog} --help shows how to call it")
        return found, extras

    def option_names(self) -> list[str]:
        """Every option string of this parser."""
        return [name for action in self._actions for name in action.option_strings]

    def subcommands(self) -> Iterator[tuple[str, Parser]]:
        """The name and parser of every subcommand and form; aliases are left out."""
        yield from self._forms.items()
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                first_names = {parser: name for name, parser in reversed(action.choices.items())}
                yield from ((name, parser) for name, parser in action.choices.items() if first_names[parser] == name)

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        """Convert one word; a `ConfigError` of the converter, such as `parse_count`, gets the option's name."""
        try:
            return super()._get_value(action, arg_string)
        except ConfigError as error:
            raise located(error, display_name(action)) from error

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            is_command = isinstance(action, argparse._SubParsersAction)
            kind = f"{self.prog.split()[-1]} subcommand" if is_command else f"value for {display_name(action)}"
            raise UnknownNameError(kind, str(value), map(str, action.choices))

    def error(self, message: str) -> NoReturn:
        hint = f"{self.prog} --help shows how to call it"
        with contextlib.suppress(ValueError):
            message, rest = message.split("subcommand", 1)
            hint = f"choose one of {', '.join(name for name, _ in self.subcommands())}{rest}"
            message = "which subcommand?"
        raise UsageError(f"{self.prog}: {message}", hint=hint)


def display_name(action: argparse.Action) -> str:
    """How a user knows an argument: its longest option, or its name."""
    return max(action.option_strings, key=len) if action.option_strings else str(action.metavar or action.dest)


def with_dashes(words: Sequence[str]) -> list[str]:
    """Spell every long option with dashes: `--max_steps=5` becomes `--max-steps=5`. Words after `--` stay.

    >>> with_dashes(["--max_steps=a_b", "c_d", "--", "--e_f"])
    ['--max-steps=a_b', 'c_d', '--', '--e_f']
    """
    spelled: list[str] = []
    for position, word in enumerate(words):
        if word == "--":
            return [*spelled, *words[position:]]
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            word = name.replace("_", "-") + equals + value
        spelled.append(word)
    return spelled
