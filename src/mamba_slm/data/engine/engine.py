"""What every engine is: something that gets tasks done, whatever dies on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mamba_slm.data.engine.task import Quarantined, RunTasks, Task


class Engine(Protocol):
    """Runs the tasks of a stage in any order, anywhere."""

    def run(self, tasks: Sequence[Task], *, stage: str, may_quarantine: bool = False) -> tuple[Quarantined, ...]:
        """Return when every task is done or quarantined; what is done already is not done again.

        Args:
            stage: its name, for the manifest and what is said; letters, digits, `.`, `_` and `-`.
            may_quarantine: a task that cannot be done is set aside and returned, instead of being an error.

        Raises:
            DiskFullError: there is no room; what is done stays done.
            SetupError: workers cannot be started, or a task kills each one.
            MambaSlmError: the error of a task that may not be quarantined, as it was raised.
        """
        ...

    def for_stage(self, stage: str) -> RunTasks:
        """A function that runs tasks as `stage.FOLDER`, FOLDER being where they write; all must be done."""
        ...

    def close(self) -> None:
        """Let the workers go. The engine can be used again."""
        ...


@dataclass(frozen=True)
class StageRunner:
    """An engine for code that knows of tasks only."""

    engine: Engine
    stage: str

    def __call__(self, tasks: Sequence[Task]) -> None:
        """Run what is not done yet."""
        if tasks:
            self.engine.run(tasks, stage=f"{self.stage}.{tasks[0].out.parent.name}")
