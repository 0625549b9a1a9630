"""Messages of several lines from a terminal or a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mamba_slm.core.errors import ConfigError

FENCE = '"""'
"""Begins and ends a message of several lines."""


def messages(lines: Iterable[str]) -> Iterator[str]:
    r'''Join lines that belong together: those that end in a backslash, and those between two lines of `"""`.

    >>> list(messages(["one", "two\\", "three", '"""', "four", "", "five", '"""']))
    ['one', 'two\nthree', 'four\n\nfive']

    Raises:
        ConfigError: the input ends inside a message.
    '''
    iterator = iter(lines)
    for line in iterator:
        if line.strip() == FENCE:
            yield "\n".join(until_fence(iterator))
        elif line.endswith("\\"):
            yield "\n".join(continued(line, iterator))
        else:
            yield line


def until_fence(lines: Iterator[str]) -> Iterator[str]:
    """The lines up to the next fence."""
    for line in lines:
        if line.strip() == FENCE:
            return
        yield line
    raise ConfigError(f"the input ends inside a message that {FENCE} began", hint=f"end the message with {FENCE}")


def continued(line: str, lines: Iterator[str]) -> Iterator[str]:
    """A line that goes on, and those that it goes on with."""
    while line.endswith("\\"):
        yield line[:-1]
        following = next(lines, None)
        if following is None:
            return
        line = following
    yield line
