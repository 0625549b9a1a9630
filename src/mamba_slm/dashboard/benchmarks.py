"""What the benchmarks measure, for who has to choose: data apart from the code that asks them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One set of questions."""

    name: str
    """As `--benchmarks` takes it."""
    measures: str
    questions: int
    """As lm-evaluation-harness asks them, without --limit."""
    how: str
    """How it is scored."""
    tasks: int = 1
    """How many sets it consists of, each of which --limit cuts."""
    is_of_ten: bool = True
    """Whether `all` asks it."""


BENCHMARKS = (
    Benchmark(name="arc_easy", measures="science questions of schools", questions=2376, how="1 of 4 choices"),
    Benchmark(name="arc_challenge", measures="the hard ones of these", questions=1172, how="1 of 4 choices"),
    Benchmark(name="piqa", measures="how to do things with things", questions=1838, how="1 of 2 choices"),
    Benchmark(name="hellaswag", measures="how a scene goes on", questions=10_042, how="1 of 4 choices"),
    Benchmark(name="winogrande", measures="whom a pronoun means", questions=1267, how="1 of 2 choices"),
    Benchmark(name="boolq", measures="yes or no about a text", questions=3270, how="1 of 2 choices"),
    Benchmark(name="mmlu", measures="knowledge of 57 subjects", questions=14_042, how="1 of 4 choices", tasks=57),
    Benchmark(
        name="truthfulqa", measures="common errors not repeated", questions=2451, how="choices, and text", tasks=3
    ),
    Benchmark(name="gsm8k", measures="sums told as stories", questions=1319, how="a number, written"),
    Benchmark(name="humaneval", measures="programs from a description", questions=164, how="tests, in a sandbox"),
    Benchmark(name="mbpp", measures="short programs", questions=500, how="tests, in a sandbox", is_of_ten=False),
    Benchmark(
        name="lambada_openai",
        measures="the last word of a story",
        questions=5153,
        how="the word, exactly",
        is_of_ten=False,
    ),
    Benchmark(
        name="blimp",
        measures="grammar: which of two is right",
        questions=67_000,
        how="1 of 2 sentences",
        tasks=67,
        is_of_ten=False,
    ),
)

SUITES = {
    "small": ("Small models", "arc_easy,piqa,hellaswag,lambada_openai,blimp"),
    "ten": ("The ten", "all"),
    "code": ("Programs", "humaneval,mbpp"),
}
"""Key -> name, and what `--benchmarks` is given."""


def count_questions(names: str, limit: int | None) -> tuple[int, list[str]]:
    """How many questions some benchmarks ask, and the names of which that is not known here.

    Args:
        names: as `--benchmarks` takes them.
        limit: of each task; None asks all.

    >>> count_questions("arc_easy,piqa,mine", 100)
    (200, ['mine'])
    """
    known = {one.name: one for one in BENCHMARKS}
    ten = [one.name for one in BENCHMARKS if one.is_of_ten]
    parts = [part.strip() for part in names.split(",") if part.strip()]
    wanted = dict.fromkeys(name for part in parts for name in (ten if part == "all" else [part]))
    asked = [known[name] for name in wanted if name in known]
    total = sum(one.questions if limit is None else min(one.questions, limit * one.tasks) for one in asked)
    return total, [name for name in wanted if name not in known]
