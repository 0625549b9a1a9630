"""`mamba-slm eval compare A B`: differences of two models, paired by question."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mamba_slm.cli import console
from mamba_slm.core.errors import UsageError

if TYPE_CHECKING:
    from mamba_slm.evaluation.results import Evaluation


def compare_results(args: argparse.Namespace) -> int:
    """Show the differences of two results; `args.compared` holds their paths."""
    from mamba_slm.core.files import write_text_atomic
    from mamba_slm.evaluation.results import read_evaluation
    from mamba_slm.evaluation.scores.comparing import compare
    from mamba_slm.evaluation.scores.page import render_comparison
    from mamba_slm.evaluation.scores.text import CHANGES_HEADER, CHANGES_RIGHT, change_rows, changes_note

    if len(args.compared) != 2:
        raise UsageError(
            f"eval compare takes two results, got {len(args.compared)}",
            hint="mamba-slm eval compare eval-before eval-after",
        )
    first, second = (read_evaluation(path) for path in args.compared)
    differences = compare(first, second)
    if args.html:
        write_text_atomic(Path(args.html), render_comparison(first, second, differences))
        console.say(f"page: {args.html}")
    if args.json:
        console.print_json(
            {
                "first": first.model,
                "second": second.model,
                "differences": [
                    {**asdict(one), "interval": one.interval, "verdict": one.verdict} for one in differences
                ],
            }
        )
        return 0
    print(console.table(list(CHANGES_HEADER), change_rows(differences), right=list(CHANGES_RIGHT)))
    console.say(f"first: {first.model}; second: {second.model}")
    console.say(changes_note())
    return 0


def judge(baseline: Evaluation, evaluation: Evaluation, *, fail_below: float | None) -> None:
    """Show the differences to a baseline on stderr.

    Raises:
        CheckFailedError: one is below `fail_below`.
    """
    from mamba_slm.evaluation.scores.comparing import compare, require_no_loss
    from mamba_slm.evaluation.scores.text import CHANGES_HEADER, CHANGES_RIGHT, change_rows, changes_note

    differences = compare(baseline, evaluation)
    console.say(f"beside {baseline.model}, which is first:")
    console.say(console.table(list(CHANGES_HEADER), change_rows(differences), right=list(CHANGES_RIGHT)))
    console.say(changes_note())
    if fail_below is not None:
        require_no_loss(differences, fail_below)
