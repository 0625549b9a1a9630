"""Who runs in the next step.

The rules, in this order:
1. Running requests keep their memory. Where the blocks for the next tokens do not suffice, the least urgent ones are
   suspended: their states are moved away whole and come back later, nothing is computed again.
2. Free slots go to those who wait, by priority (which grows with waiting), then to the tenant that was served least,
   then by arrival. One who does not find room for its whole prompt holds up those behind it: nobody overtakes for ever.
3. A request of higher priority that finds no slot suspends the least urgent one of lower priority.
4. All that make tokens make one. What is left of the step's tokens goes to prompts, in the order of rule 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mamba_slm.serving.scheduler.job import Job, Limits


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Numbers of jobs. Carried out in the order of the fields."""

    suspend: tuple[int, ...]
    """Running ones that give their memory back for now."""

    start: tuple[int, ...]
    """Waiting and suspended ones that get a slot."""

    decode: tuple[int, ...]
    """Running ones that make a token."""

    read: tuple[tuple[int, int], ...]
    """Running or just started ones that read so many tokens of their prompts, the most urgent first."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is to be done."""
        return not (self.suspend or self.start or self.decode or self.read)


def plan(
    jobs: Sequence[Job], *, free_blocks: int, limits: Limits, now: float, served: Mapping[str, int] | None = None
) -> Plan:
    """The next step; changes nothing.

    Args:
        jobs: all that are not done, in any order.
        free_blocks: blocks that no running job holds and that can be had: free ones, and those of a cache that would
            give them up.
        limits: of the engine.
        now: seconds on the same clock as `Job.submitted`.
        served: tokens that each tenant has been given so far; absent ones have none.
    """
    served = served or {}

    def urgency(job: Job) -> tuple[int, int, int]:
        return (limits.level(job, now), served.get(job.tenant, 0), job.number)

    active = sorted((job for job in jobs if job.place == "running"), key=urgency)
    queue = sorted((job for job in jobs if job.place != "running"), key=urgency)
    reading = {job.number for job in jobs if job.unread}
    suspended: list[Job] = []

    def has_room(active: Sequence[Job], suspended: Sequence[Job]) -> bool:
        """Whether `active` have slots, and blocks for their whole prompts or their next tokens."""
        free = free_blocks + sum(held(job, limits) for job in suspended)
        more = sum(limits.blocks(job.tokens + max(job.unread, 1)) - held(job, limits) for job in active)
        return len(active) <= limits.slots and more <= free

    while len(active) > 1 and not has_room(active, suspended):
        suspended.append(active.pop())
    started: list[Job] = []
    for job in queue if not suspended else ():
        if job.waits_for is not None and job.waits_for in reading:
            continue
        victims = [other for other in reversed(active) if gives_way(other, job, limits, now)]
        enough = next(
            (
                count
                for count in range(len(victims) + 1)
                if has_room([*(a for a in active if a not in victims[:count]), job], [*suspended, *victims[:count]])
            ),
            None,
        )
        if enough is None:
            break
        suspended += victims[:enough]
        active = sorted([*(a for a in active if a not in victims[:enough]), job], key=urgency)
        started.append(job)

    decode = tuple(job.number for job in active if not job.unread)
    left = limits.step_tokens - len(decode)
    read: list[tuple[int, int]] = []
    for job in active:
        count = min(job.unread, left)
        if count > 0:
            read.append((job.number, count))
            left -= count
    return Plan(
        suspend=tuple(job.number for job in suspended),
        start=tuple(job.number for job in started),
        decode=decode,
        read=tuple(read),
    )


def held(job: Job, limits: Limits) -> int:
    """Blocks that a job has now."""
    return limits.blocks(job.tokens) if job.place == "running" else 0


def gives_way(job: Job, to: Job, limits: Limits, now: float) -> bool:
    """Whether a running job is suspended for another: only for a higher priority, and never once it has waited longer
    than that is worth."""
    return job.place == "running" and to.priority < job.priority and limits.level(to, now) < limits.level(job, now)
