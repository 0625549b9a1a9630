"""How often something is tried, and how long nothing may be heard of it."""

from __future__ import annotations

from dataclasses import dataclass, fields

from mamba_slm.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class EngineLimits:
    """When an engine gives up on an attempt, and when on a task."""

    attempts: int = 3
    """Times that a task is tried when it ends with an error that may pass. One about its input is final at once."""

    deaths: int = 10
    """Times that the worker of a task may die. More than attempts: whoever kills workers may mean others."""

    shared_deaths: int = 2
    """Deaths of its worker after which a task is tried only while no other one runs: it may be the memory."""

    retry_seconds: float = 1.0
    """Pause before the second attempt after an error; doubled each time."""

    silent_seconds: float = 60.0
    """A worker that gives no sign of life for so long is killed."""

    stalled_seconds: float = 60.0
    """A task that neither computes nor reports progress for so long is given up, and tried again."""

    task_seconds: float = 3600.0
    """The longest that an attempt may take in a stage whose tasks may be quarantined; others may take any time."""

    sign_seconds: float = 10.0
    """The longest time without a word about the progress."""

    @property
    def given_up_seconds(self) -> float:
        """After which an engine kills a silent worker: it ends itself sooner, and says where it hangs."""
        return 1.25 * self.silent_seconds

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name == "retry_seconds" else 1 if field.type == "int" else 1e-3
            if not value >= least:
                raise ConfigError(f"{field.name} must be at least {least}, got {value}")
