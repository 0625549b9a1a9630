"""Whether a command printed what its page shows: the words of each line, whatever the numbers were."""

from __future__ import annotations

import re

NUMBER = re.compile(r"\d")
ENDS = ("…", "...")


def words_of(line: str) -> list[str]:
    """The words without a digit; what the page cut off (`…`) ends the line."""
    line = line.rstrip()
    cut = line.endswith(ENDS)
    words = line.removesuffix("…").removesuffix("...").split()
    words = words[:-1] if cut and not line.removesuffix("…").removesuffix("...").endswith(" ") else words
    return [word for word in words if not NUMBER.search(word)]


def is_within(wanted: list[str], line: str) -> bool:
    """Whether these words stand in this line, in this order."""
    words = iter(words_of(line))
    return all(word in words for word in wanted)


def missing(shown: tuple[str, ...], printed: str, *, compared: str = "all", exact: bool = False) -> list[str]:
    """The lines that the page shows and the command did not print.

    Args:
        compared: `all`, `first and last` or `nothing`.
        exact: numbers and blanks, too; for pages whose stage makes the same files each time.
    """
    wanted = [line for line in shown if line.strip() and line.strip() not in ENDS]
    if compared == "first and last":
        wanted = wanted[:1] + wanted[-1:]
    elif compared != "all":
        wanted = []
    lines = printed.splitlines()
    if exact:
        plain = {line.rstrip() for line in lines}
        return [line for line in wanted if line.rstrip() not in plain]
    return [line for line in wanted if not any(is_within(words_of(line), one) for one in lines)]
