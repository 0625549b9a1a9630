"""A reward that somebody wrote: a function in a Python file of theirs.

    def is_polite(prompt, completion):
        return float("please" in completion)

It is called once per answer, with what it names of `KNOWN`.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import UnknownNameError, UsageError
from mamba_slm.finetuning.rewards.rollout import Rollout

KNOWN = ("prompt", "completion", "answer", "messages", "fields", "num_tokens", "finished")
"""What a function may ask for by the names of its arguments; see `Rollout`."""


class OwnFunction:
    """Whatever number the function returns."""

    def __init__(self, function: Callable[..., Any], name: str):
        """
        Raises:
            UnknownNameError: the function wants an argument that nobody can give it.
        """
        self.name = name
        self.function = function
        parameters = inspect.signature(function).parameters.values()
        for parameter in parameters:
            if parameter.name not in KNOWN and parameter.default is parameter.empty:
                raise UnknownNameError(f"argument of the reward {name}", parameter.name, KNOWN)
        self.wanted = [parameter.name for parameter in parameters if parameter.name in KNOWN]

    def check(self, rollouts: Sequence[Rollout]) -> None:
        """Only the function knows what it needs."""

    def score(self, rollouts: Sequence[Rollout]) -> list[float]:
        """One number each.

        Raises:
            UsageError: the function raised, or returned something that is no finite number.
        """
        return [self.score_one(rollout) for rollout in rollouts]

    def score_one(self, rollout: Rollout) -> float:
        """What the function says about one answer."""
        arguments = {name: getattr(rollout, name) for name in self.wanted}
        try:
            value = self.function(**arguments)
        except Exception as error:
            raise UsageError(
                f"the reward {self.name} raised {type(error).__name__}: {error}",
                hint=f"it was given {shown(arguments)}",
            ) from error
        if isinstance(value, bool | int | float) and math.isfinite(value):
            return float(value)
        raise UsageError(
            f"the reward {self.name} returned {value!r}, which is no finite number",
            hint=f"it was given {shown(arguments)}",
        )


def shown(arguments: dict[str, Any]) -> str:
    """Arguments for a hint, cut short."""
    return ", ".join(f"{name}={str(value)[:60]!r}" for name, value in arguments.items())


def load_function(path: Path, function: str) -> OwnFunction:
    """The function of this name in a Python file, which is run.

    Raises:
        UsageError: no such file, or it cannot be run.
        UnknownNameError: no such function in it; names the nearest.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path} to take a reward from", hint="--reward FILE.py:FUNCTION")
    spec = importlib.util.spec_from_file_location(f"reward_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"{path} could not be run: {type(error).__name__}: {error}") from error
    found = getattr(module, function, None)
    if not callable(found):
        names = [name for name, value in vars(module).items() if inspect.isfunction(value)]
        raise UnknownNameError(f"function in {path.name}", function, names)
    return OwnFunction(found, function)
