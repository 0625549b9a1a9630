"""A question whose answer is a program."""

from __future__ import annotations

import re
from dataclasses import dataclass

FENCE = "```"


@dataclass(frozen=True, kw_only=True)
class CodeQuestion:
    """What a model is asked, and how its answer becomes a program that tests itself."""

    task: str
    """As its benchmark names it, such as HumanEval/0."""

    number: int
    """In its split, from 0."""

    prompt: str
    """What the model continues."""

    stops: tuple[str, ...]
    """Strings that end an answer; they are not part of it."""

    max_new_tokens: int

    head: str
    """Code before the answer; the answer continues it."""

    tests: str
    """Code after the answer; it raises where the answer is wrong."""

    solution: str
    """An answer that is right, from the benchmark."""

    def program(self, answer: str) -> str:
        """The program that ends well if the answer is right."""
        return f"{self.head}{code_of(answer, self.stops, continues=bool(self.head))}\n{self.tests}\n"


def code_of(answer: str, stops: tuple[str, ...], *, continues: bool) -> str:
    """The answer up to the first stop, without Markdown.

    Args:
        answer: as the model wrote it.
        stops: strings that end it.
        continues: whether it goes on with code that was begun; else the first block of code counts, if there is one.

    >>> code_of("    return 1\\n```\\ndef g():", ("\\ndef",), continues=True)
    '    return 1\\n'
    >>> code_of("Sure:\\n```python\\nx = 1\\n```\\nThat is all.", ("[DONE]",), continues=False)
    'x = 1\\n'
    """
    ends = [place for stop in stops if (place := answer.find(stop)) >= 0]
    answer = answer[: min(ends)] if ends else answer
    if answer.lstrip().startswith(FENCE) or (not continues and answer.count(FENCE) > 1):
        block = re.search(r"^\s*```\w*\n(.*?)(?:^\s*```|\Z)", answer, flags=re.DOTALL | re.MULTILINE)
        return block[1] if block else ""
    return answer.partition(FENCE)[0]
