"""How many sockets the system lets this process have."""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import replace

from mamba_slm.serving.api.guard.settings import GuardSettings

OTHER_FILES = 256
"""Descriptors that are no connections: the model, logs, libraries, the cache on disk."""


def room_for_connections(settings: GuardSettings, *, say: Callable[[str], None]) -> GuardSettings:
    """Raise the process's limit of open files as far as connections need it; where that is not far enough, fewer
    connections, said with the reason."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.max_connections + OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return settings
    given = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (given, hard))
    if given == wanted:
        return settings
    room = max(1, given - OTHER_FILES)
    say(f"connections: {room:,} at most, because this process may open {given:,} files (raise it: ulimit -Hn)")
    return replace(settings, max_connections=room)
