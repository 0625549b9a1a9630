"""What is waiting, running, over: the bookkeeping of a stage, the same for every engine."""

from __future__ import annotations

import heapq
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mamba_slm.core.errors import SetupError
from mamba_slm.data.engine.limits import EngineLimits
from mamba_slm.data.engine.manifest import Manifest
from mamba_slm.data.engine.outcome import Failure, Outcome
from mamba_slm.data.engine.progress import StageProgress
from mamba_slm.data.engine.task import Quarantined, Task, delete_leftovers_of


@dataclass(frozen=True, kw_only=True)
class Reporting:
    """Whom an engine tells what."""

    say: Callable[[str], None] = lambda line: None
    """Told when something is tried again or set aside."""
    on_progress: Callable[[StageProgress], None] = lambda progress: None
    """Told when a task is over, and at least every `sign_seconds`."""


class Ledger:
    """Decides which task is next, and what happens to one that failed."""

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        stage: str,
        may_quarantine: bool,
        limits: EngineLimits,
        reporting: Reporting,
        manifest: Manifest | None = None,
        delete_leftovers: bool = True,
    ):
        """`delete_leftovers`: of killed attempts; False while one of an earlier engine may still run."""
        names = Counter(task.name for task in tasks)
        assert len(names) == len(tasks), f"two tasks of {stage} are called {names.most_common(1)[0][0]}"
        self.size = sum(task.size for task in tasks)
        self.tasks, self.stage, self.may_quarantine = tasks, stage, may_quarantine
        self.limits, self.reporting, self.manifest = limits, reporting, manifest
        self.waiting: deque[int] = deque()
        self.later: list[tuple[float, int]] = []
        """A heap of when a task may be tried again, and which."""
        self.lonely: deque[int] = deque()
        """Tasks that are tried only while no other one runs."""
        self.running: set[int] = set()
        self.attempts: Counter[int] = Counter()
        self.deaths: Counter[int] = Counter()
        self.quarantined: dict[int, Quarantined] = {}
        self.done = self.done_size = self.new_size = self.retries = 0
        self.started = self.last_sign = time.monotonic()
        for index in range(len(tasks)):
            self.admit(index)
        if delete_leftovers:
            delete_leftovers_of([tasks[index] for index in self.waiting])

    def admit(self, index: int) -> None:
        """What an earlier run has left is taken as it is."""
        task = self.tasks[index]
        entry = self.manifest.entries.get((self.stage, task.name)) if self.manifest else None
        there = task.out.exists()
        if there and (self.manifest is None or (entry is not None and entry["state"] == "done")):
            self.done += 1
            self.done_size += task.size
        elif not there and self.may_quarantine and entry is not None and entry["state"] == "quarantined":
            self.quarantined[index] = Quarantined(task=task, error=entry["error"], attempts=entry["attempts"])
        else:
            self.waiting.append(index)

    @property
    def is_over(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not (self.waiting or self.later or self.lonely or self.running)

    def seconds_to_wait(self, at_most: float) -> float:
        """How long to wait for something to happen: not past the next sign, nor past the next attempt.

        An attempt that could be made already waits for a worker, and is no reason to look again at once.
        """
        until_next = self.later[0][0] - time.monotonic() if self.later else at_most
        return min(at_most, self.limits.sign_seconds, until_next if until_next > 0 else at_most)

    def take(self) -> int | None:
        """The next task to start; None when none may be started now."""
        while self.later and self.later[0][0] <= time.monotonic():
            self.waiting.append(heapq.heappop(self.later)[1])
        if self.running and self.deaths[next(iter(self.running))] >= self.limits.shared_deaths:
            return None
        while self.waiting:
            index = self.waiting.popleft()
            if self.deaths[index] < self.limits.shared_deaths:
                break
            self.lonely.append(index)
        else:
            if self.running or not self.lonely:
                return None
            index = self.lonely.popleft()
        self.running.add(index)
        return index

    def put_back(self, index: int) -> None:
        """A task was not started after all."""
        self.running.discard(index)
        self.waiting.appendleft(index)

    def abandon(self) -> None:
        """Nothing goes on: the workers are gone."""
        delete_leftovers_of([self.tasks[index] for index in self.running])

    def note(self, index: int, outcome: Outcome) -> None:
        """An attempt is over.

        Raises:
            MambaSlmError: nothing can be done about it, and the task may not be quarantined.
        """
        self.running.discard(index)
        task = self.tasks[index]
        self.attempts[index] += 1
        if outcome.failure is None:
            self.done += 1
            self.done_size += task.size
            self.new_size += task.size
            if self.manifest is not None:
                self.manifest.add(
                    {
                        **{"stage": self.stage, "task": task.name, "state": "done", "attempts": self.attempts[index]},
                        "seconds": round(outcome.seconds, 3),
                        **(outcome.record or {}),
                    }
                )
        else:
            self.note_failure(index, outcome.failure)
        self.sign(always=True)

    def note_failure(self, index: int, failure: Failure) -> None:
        """Try it again, set it aside, or raise."""
        delete_leftovers_of([self.tasks[index]])
        if failure.kind == "fatal":
            raise failure.exception()
        died = failure.kind == "died"
        self.deaths[index] += died
        errors = self.attempts[index] - self.deaths[index]
        limits, reason = self.limits, failure.text.strip().rpartition("\n")[2]
        if failure.kind != "input" and errors < limits.attempts and self.deaths[index] < limits.deaths:
            self.retries += 1
            pause = 0.0 if died else limits.retry_seconds * 2 ** (errors - 1)
            heapq.heappush(self.later, (time.monotonic() + pause, index))
            self.reporting.say(f"{self.stage}: task {self.tasks[index].name} is tried again: {reason}")
            return
        if not self.may_quarantine:
            error = failure.exception()
            if died and failure.error is None:
                error = SetupError(
                    f"each worker that ran task {self.tasks[index].name} of {self.stage} died, "
                    f"{self.deaths[index]} times: {reason}",
                    hint="is there too little memory? What is done stays done; run the same command again",
                )
            raise error
        task, attempts = self.tasks[index], self.attempts[index]
        self.quarantined[index] = Quarantined(task=task, error=failure.text, attempts=attempts)
        self.reporting.say(f"{self.stage}: task {task.name} is set aside after {attempts} attempts: {reason}")
        if self.manifest is not None:
            entry = {"stage": self.stage, "task": task.name, "state": "quarantined", "attempts": attempts}
            self.manifest.add({**entry, "error": failure.text})

    def sign(self, *, always: bool = False) -> None:
        """Tell the progress, if it was not told for a while."""
        now = time.monotonic()
        if always or now - self.last_sign >= self.limits.sign_seconds:
            self.last_sign = now
            self.reporting.on_progress(self.progress(now))

    def progress(self, now: float) -> StageProgress:
        """How far it is."""
        return StageProgress(
            stage=self.stage,
            tasks=len(self.tasks),
            done=self.done,
            running=len(self.running),
            quarantined=len(self.quarantined),
            retries=self.retries,
            size=self.size,
            done_size=self.done_size,
            new_size=self.new_size,
            seconds=now - self.started,
        )

    def result(self) -> tuple[Quarantined, ...]:
        """What was set aside, in the order of the tasks."""
        return tuple(self.quarantined[index] for index in sorted(self.quarantined))
