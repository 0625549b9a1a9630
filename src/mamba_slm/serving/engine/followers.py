"""Requests that begin as one that is being read wait for it, and take over what it has read."""

from __future__ import annotations

from collections.abc import Iterable

from mamba_slm.serving.cache.radix import common_length
from mamba_slm.serving.engine.task import Task

WORTH_WAITING_TOKENS = 64


def leader_of(task: Task, others: Iterable[Task]) -> int | None:
    """The earlier request that reads what a waiting one begins with, too; it will keep a state where they part.

    Only one that is as urgent and of the same tenant, so that nobody waits for one who waits for others.
    """
    request = task.request
    if not request.use_cache:
        return None
    for other in others:
        theirs = other.request
        if (
            other.number < task.number
            and other.unread
            and other.parked is None
            and theirs.use_cache
            and (theirs.namespace, theirs.priority, theirs.tenant)
            == (request.namespace, request.priority, request.tenant)
        ):
            if other.number not in task.shared:
                task.shared[other.number] = common_length(request.prompt, theirs.prompt, 0)
            shared = task.shared[other.number]
            if shared - other.at >= WORTH_WAITING_TOKENS:
                other.wanted.add(shared)
                other.cuts = sorted({*other.cuts, shared})
                return other.number
    return None
