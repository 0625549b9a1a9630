"""Whether generated code can be run here."""

from __future__ import annotations

from mamba_slm.cli.examination.check import Check
from mamba_slm.core.errors import SetupError


def sandbox_check() -> Check:
    """The walls that a probe could not get through, or why there are none."""
    from mamba_slm.tasks.sandbox.proof import proven_walls

    try:
        walls = proven_walls()
    except SetupError as error:
        return Check(
            section="machine", name="sandbox", status="note", text=error.message,
            cost="HumanEval and MBPP exit with 3: generated code never runs without one", hint=error.hint or "",
        )  # fmt: skip
    return Check(section="machine", name="sandbox", text=f"{walls}: a probe could not get out, so generated code runs")
