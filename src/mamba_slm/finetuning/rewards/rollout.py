"""What a reward looks at, and what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Message = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """A prompt and one answer of the model to it."""

    messages: tuple[Message, ...]
    """The prompt, as `{"role": …, "content": …}` each."""

    completion: str
    """What the model wrote, without the token that ended it."""

    num_tokens: int
    """Tokens that it wrote, the end included."""

    finished: bool
    """Whether it ended by itself; False where the limit of tokens cut it off."""

    answer: str | None = None
    """The answer that is right, where the data say one."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    """What else the data say about the prompt."""

    origin: str = ""
    """Where the prompt came from: "file.jsonl, line 12"."""

    @property
    def prompt(self) -> str:
        """The last message of the prompt."""
        return str(self.messages[-1]["content"]) if self.messages else ""


class Reward(Protocol):
    """Scores answers; larger is better."""

    name: str
    """For tables and metrics."""

    def check(self, rollouts: Sequence[Rollout]) -> None:
        """Look at prompts (whose answers are empty) before anything is trained.

        Raises:
            DataError: a prompt lacks what this reward needs to judge its answers.
        """
        ...

    def score(self, rollouts: Sequence[Rollout]) -> list[float]:
        """One finite number per rollout."""
        ...
