"""Calls of functions in the text of an answer, found while it is written.

What may be the beginning of a call is held back until it is known; the arguments of a call are passed on as they come.
Text that turns out to be no call is text of the answer: nothing gets lost.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from mamba_slm.generation.stream import overlap
from mamba_slm.serving.api.tools.form import CallForm

STRING = r'"((?:[^"\\]|\\.)*)"'


@dataclass(frozen=True)
class Said:
    """Text that is no call."""

    text: str


@dataclass(frozen=True)
class Called:
    """A call begins; its arguments follow."""

    index: int
    name: str


@dataclass(frozen=True)
class Arguments:
    """The next characters of the arguments of a call, which are JSON."""

    index: int
    text: str


Part = Said | Called | Arguments


class CallParser:
    """One answer."""

    def __init__(self, form: CallForm, *, most_calls: int | None = None):
        """
        Args:
            most_calls: what is written after so many is left out.
        """
        self._form, self._most_calls = form, most_calls
        self._opening = re.compile(rf'\s*\{{\s*"name"\s*:\s*{STRING}\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{{)')
        self._held = ""
        self._place = "text"
        self._gap = ""
        self._said_anything = False
        self._value = JsonValue()
        self.num_calls = 0
        """Those that have begun."""

    def push(self, text: str) -> list[Part]:
        """What became certain with the next piece of text."""
        self._held += text
        return list(self._parts())

    def finish(self) -> list[Part]:
        """The rest of an answer that has ended."""
        parts = list(self._parts())
        held, self._held = self._held, ""
        if self._place == "opening":
            parts += self._whole(held)
        elif self._place == "text" and (held.strip() or not self.num_calls):
            parts += self._say(held)
        return parts

    def _parts(self) -> Iterator[Part]:
        before = None
        while before != (self._place, self._held):
            before = (self._place, self._held)
            yield from getattr(self, f"_in_{self._place}")()

    def _in_text(self) -> Iterator[Part]:
        """Up to where a call may begin."""
        if self._is_full:
            self._held = ""
            return
        head = self._form.head
        if not head:
            if self._said_anything or self.num_calls or not "{".startswith(self._held.lstrip()[:1]):
                yield from self._say(self._take(len(self._held)))
            elif self._held.lstrip():
                self._place = "opening"
            return
        place = self._held.find(head)
        if place >= 0:
            before = self._take(place)
            said = before.rstrip()
            self._gap = before[len(said) :]
            self._take(len(head))
            self._place = "opening"
            yield from self._say(said)
            return
        certain = self._held[: len(self._held) - overlap(self._held, head)].rstrip()
        yield from self._say(self._take(len(certain)))

    def _in_opening(self) -> Iterator[Part]:
        """Up to the arguments."""
        found = self._opening.match(self._held)
        name = None if found is None else name_in(found[1])
        if found and name is not None:
            self._take(found.end())
            self._place, self._value = "arguments", JsonValue()
            yield Called(self.num_calls, name)
            self.num_calls += 1
        elif self._form.foot and self._form.foot in self._held:
            inside = self._take(self._held.index(self._form.foot))
            self._take(len(self._form.foot))
            self._place = "text"
            yield from self._whole(inside, self._form.foot)

    def _in_arguments(self) -> Iterator[Part]:
        """As long as they go on."""
        new = self._take(self._value.push(self._held))
        if new:
            yield Arguments(self.num_calls - 1, new)
        if self._value.is_done:
            self._place = "closing"

    def _in_closing(self) -> Iterator[Part]:
        """Behind the arguments, up to the end of the call."""
        foot = self._form.foot
        if not foot:
            self._held = ""
        elif foot in self._held:
            self._take(self._held.index(foot) + len(foot))
            self._place = "text"
        yield from ()

    def _whole(self, inside: str, foot: str = "") -> Iterator[Part]:
        """A call whose parts stand in another order, or no call at all."""
        try:
            value = json.loads(inside)
            name = value["name"]
            arguments = value.get("arguments", value.get("parameters", {}))
            arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
            written = json.dumps(arguments, ensure_ascii=False)
            f"{name}{written}".encode()  # half a character cannot be sent
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            name, arguments, written = None, None, ""
        if isinstance(name, str) and isinstance(arguments, dict):
            yield Called(self.num_calls, name)
            yield Arguments(self.num_calls, written)
            self.num_calls += 1
        else:
            yield from self._say(f"{self._gap}{self._form.head}{inside}{foot}")

    def _say(self, text: str) -> Iterator[Part]:
        if text:
            self._said_anything = True
            yield Said(text)

    def _take(self, count: int) -> str:
        taken, self._held = self._held[:count], self._held[count:]
        return taken

    @property
    def _is_full(self) -> bool:
        return self._most_calls is not None and self.num_calls >= self._most_calls


def name_in(text: str) -> str | None:
    """What stands between the quotes of a JSON string; None: what JSON does not allow, or half a character."""
    try:
        name = json.loads(f'"{text}"', strict=False)
        name.encode()
    except ValueError:
        return None
    return name


class JsonValue:
    """Where an object of JSON ends, without looking at more of it than brackets and strings."""

    def __init__(self) -> None:
        self._depth, self._in_string, self._escaped = 0, False, False
        self.is_done = False

    def push(self, text: str) -> int:
        """How many of the next characters belong to it."""
        if self.is_done:
            return 0
        for count, character in enumerate(text, start=1):
            if self._in_string:
                self._in_string = self._escaped or character != '"'
                self._escaped = character == "\\" and not self._escaped
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if not self._depth:
                    self.is_done = True
                    return count
        return len(text)
