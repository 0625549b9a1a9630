r"""The reward for the right answer to a question of mathematics: 1 or 0.

The answer is what stands in the last \boxed{…}, else behind the last ####, else behind the last "answer is", else the
last number of the text. Numbers are compared by value ("1,000.0" is 1000, "\frac{1}{2}" is 0.5), anything else as text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from mamba_slm.core.errors import DataError
from mamba_slm.finetuning.rewards.rollout import Rollout

NUMBER = r"[-+]?(?:\d[\d,]*)?\.?\d+"
LAST_NUMBER = re.compile(rf"{NUMBER}(?:\s*/\s*\d+)?")
MARKED = re.compile(r"####\s*([^\n]+)")
SAID = re.compile(r"answer\s*(?:is|:|=)\s*([^\n]+)", re.IGNORECASE)
FRACTION = re.compile(r"\\[dt]?frac\{([^{}]+)\}\{([^{}]+)\}")
MOST_CHARACTERS = 200
"""No answer is longer; what is longer is not compared as a number."""


def final_answer(text: str) -> str | None:
    r"""What a text gives as its answer, as it is written there; None where it gives none.

    >>> final_answer("2 apples and 3 more, so 5.\n#### 5"), final_answer(r"thus \boxed{\frac{1}{2}}")
    ('5', '\\frac{1}{2}')
    >>> final_answer("The answer is: 1,200 dollars."), final_answer("I do not know")
    ('1,200', None)
    """
    boxed = last_boxed(text)
    if boxed is not None:
        return boxed
    marked = MARKED.findall(text) or SAID.findall(text)
    if marked:
        said = marked[-1].strip().rstrip(".")
        number = LAST_NUMBER.search(said)
        return number[0] if number else said
    numbers = LAST_NUMBER.findall(text)
    return numbers[-1] if numbers else None


def last_boxed(text: str) -> str | None:
    r"""What stands in the last complete \boxed{…}, inner braces and all."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth, begin = 0, start + len("\\boxed")
    for place in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[begin + 1 : place].strip()
    return None


def value_of(answer: str) -> Fraction | str:
    r"""A number by its value, anything else as text without case, spaces, signs of currency and full stop.

    >>> value_of("$1,000.00"), value_of(r"\frac{3}{6}"), value_of("x + 1.")
    (Fraction(1000, 1), Fraction(1, 2), 'x+1')
    """
    text = FRACTION.sub(r"\1/\2", answer)
    text = re.sub(r"\\text\{([^{}]*)\}|\\[,;! ]|[\s$%]", r"\1", text).lower().rstrip(".")
    if len(text) <= MOST_CHARACTERS and re.fullmatch(rf"{NUMBER}(?:/\d+)?", text):
        try:
            top, _, bottom = text.replace(",", "").partition("/")
            return Fraction(top) / Fraction(bottom or "1")
        except ZeroDivisionError:
            return text
    return text


class MathAnswer:
    """1.0 for the right final answer, 0.0 for a wrong one or none."""

    name = "math"

    def check(self, rollouts: Sequence[Rollout]) -> None:
        """
        Raises:
            DataError: prompts without an answer.
        """
        without = [rollout.origin for rollout in rollouts if final_answer(rollout.answer or "") is None]
        if without:
            raise DataError(
                f"the reward 'math' needs the answer of every prompt, and {len(without)} of {len(rollouts)} have none, "
                f"such as {without[0]}",
                hint='give each prompt a field "answer", as GSM8K does: {"question": …, "answer": "… #### 42"}',
            )

    def score(self, rollouts: Sequence[Rollout]) -> list[float]:
        """1.0 or 0.0 each."""
        return [float(is_right(rollout.completion, rollout.answer or "")) for rollout in rollouts]


def is_right(completion: str, answer: str) -> bool:
    """Whether a text gives this answer."""
    found, wanted = final_answer(completion), final_answer(answer)
    return found is not None and wanted is not None and value_of(found) == value_of(wanted)
