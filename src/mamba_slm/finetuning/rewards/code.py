"""The reward for programs that pass their tests, run in the sandbox: 1 or 0.

The tests of a prompt are its field "tests" or "test" (a program that raises where the answer is wrong; HumanEval's
`check` is called with its "entry_point"), or "test_list" with "test_setup_code" as MBPP has them, or its answer.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from mamba_slm.core.errors import DataError
from mamba_slm.finetuning.rewards.rollout import Rollout
from mamba_slm.tasks.code.judging import judge_programs
from mamba_slm.tasks.code.question import code_of
from mamba_slm.tasks.sandbox.limits import SandboxLimits


class Code:
    """1.0 for a program that ran to the end of its tests, else 0.0. Without a sandbox nothing runs."""

    name = "code"

    def __init__(self, limits: SandboxLimits | None = None, *, workers: int | None = None):
        """
        Args:
            limits: of each program.
            workers: programs at a time; None: one per processor.
        """
        self.limits = limits or SandboxLimits()
        self.workers = workers or os.cpu_count() or 1

    def check(self, rollouts: Sequence[Rollout]) -> None:
        """
        Raises:
            DataError: prompts without tests.
        """
        without = [rollout.origin for rollout in rollouts if not program_that_checks(rollout).strip()]
        if without:
            raise DataError(
                f"the reward 'code' needs tests for every prompt, and {len(without)} of {len(rollouts)} have none, "
                f"such as {without[0]}",
                hint='give each prompt a field "tests", such as "assert add(1, 2) == 3"',
            )

    def score(self, rollouts: Sequence[Rollout]) -> list[float]:
        """1.0 or 0.0 each.

        Raises:
            SetupError: this machine has no sandbox.
        """
        programs = [program_of(rollout) for rollout in rollouts]
        each_once = list(dict.fromkeys(programs))
        endings = judge_programs(each_once, self.limits, workers=self.workers)
        passed = {program: ending.outcome == "passed" for program, ending in zip(each_once, endings, strict=True)}
        return [float(passed[program]) for program in programs]


def program_that_checks(rollout: Rollout) -> str:
    """The program that raises where an answer is wrong; empty where the prompt has none."""
    fields = rollout.fields
    if "test_list" in fields:
        return "\n".join([str(fields.get("test_setup_code", "")), *map(str, fields["test_list"])])
    tests = fields.get("tests", fields.get("test", rollout.answer or ""))
    tests = "\n".join(map(str, tests)) if isinstance(tests, list | tuple) else str(tests)
    return f"{tests}\ncheck({fields['entry_point']})" if "entry_point" in fields else tests


def program_of(rollout: Rollout) -> str:
    """The code of an answer, its Markdown taken off, and the tests behind it."""
    return f"{code_of(rollout.completion, (), continues=False)}\n{program_that_checks(rollout)}\n"
