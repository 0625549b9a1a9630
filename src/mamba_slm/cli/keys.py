"""Single keys: of a terminal without Return, else one a line of stdin."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Protocol, TextIO


class Keys(Protocol):
    """Where keys come from. Use as a context manager."""

    is_terminal: bool

    def __enter__(self) -> Keys: ...

    def __exit__(self, *_: object) -> None: ...

    def next(self) -> str | None:
        """The next key or line; None at the end."""
        ...

    def paused(self) -> contextlib.AbstractContextManager[None]:
        """The terminal as it was, for a program that wants it for a while."""
        ...


class LineKeys:
    """Every line of a pipe is a key, or a text."""

    is_terminal = False

    def __init__(self, stream: TextIO):
        self.stream = stream

    def __enter__(self) -> LineKeys:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was changed."""

    def next(self) -> str | None:
        line = self.stream.readline()
        return line.rstrip("\r\n") if line else None

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        yield


class TerminalKeys:
    """Keys as they are pressed, not shown. Ctrl-C interrupts, Ctrl-D ends; the terminal is itself again afterwards."""

    is_terminal = True

    def __init__(self, descriptor: int):
        self.descriptor = descriptor

    def __enter__(self) -> TerminalKeys:
        import termios
        import tty

        self._before = termios.tcgetattr(self.descriptor)
        tty.setcbreak(self.descriptor, termios.TCSADRAIN)  # keeps what was typed already
        return self

    def __exit__(self, *_: object) -> None:
        import termios

        termios.tcsetattr(self.descriptor, termios.TCSADRAIN, self._before)

    def next(self) -> str | None:
        try:
            key = os.read(self.descriptor, 1)
            while len(key) < 4 and key[:1] >= b"\xc0" and not is_whole(key):  # a character of several bytes
                key += os.read(self.descriptor, 1)
        except OSError:  # the terminal is gone
            return None
        return None if key in (b"", b"\x04") else key.decode("utf-8", errors="replace")

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()


def is_whole(key: bytes) -> bool:
    """Whether bytes are a complete character."""
    try:
        key.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def keys_of_stdin() -> Keys:
    """Keys of the terminal if there is one, else lines."""
    return TerminalKeys(sys.stdin.fileno()) if sys.stdin.isatty() else LineKeys(sys.stdin)
