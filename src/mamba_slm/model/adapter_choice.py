"""Which adapters a command is to use, and which model they belong to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mamba_slm.core.errors import DataError, UsageError
from mamba_slm.model.adapter_folder import describe_adapter, is_adapter_folder
from mamba_slm.model.checkpoint import is_model_folder, resolve_model_folder

RUN_FOLDER = "adapter"
"""Where a fine-tuning run leaves its adapter."""


@dataclass(frozen=True, kw_only=True)
class AdapterChoice:
    """An adapter to use, and how strongly."""

    folder: Path
    weight: float = 1.0
    """1 is the adapter as it was trained, 0 the base model."""

    @classmethod
    def parse(cls, text: str) -> AdapterChoice:
        """FOLDER or FOLDER=WEIGHT.

        >>> AdapterChoice.parse("runs/a/adapter=0.5").weight
        0.5

        Raises:
            UsageError: what follows the = is no number.
        """
        folder, separator, weight = text.rpartition("=")
        if not separator or Path(text).is_dir():
            return cls(folder=Path(text))
        try:
            number = float(weight)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise UsageError(f"{weight!r} is no weight of an adapter", hint="such as --adapter FOLDER=0.5")
        return cls(folder=Path(folder), weight=number)


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """A model and the adapters to use with it."""

    base: Path
    """Model folder."""
    adapters: tuple[AdapterChoice, ...]
    """Each with the folder that holds the adapter itself."""

    @property
    def tokenizer_folder(self) -> Path:
        """Where tokenizer and chat template lie: those of the last adapter that has its own, else the base's."""
        own = [choice.folder for choice in self.adapters if (choice.folder / "tokenizer.json").is_file()]
        return own[-1] if own else self.base

    def __str__(self) -> str:
        used = [f"{one.folder}" + ("" if one.weight == 1 else f" × {one.weight:g}") for one in self.adapters]
        return " + ".join([str(self.base), *used])


def resolve_adapted(path: Path | str, choices: Sequence[AdapterChoice] = ()) -> Adapted:
    """Find the model that a path means, and the adapters: a run that left an adapter alone means its base with it.

    Args:
        path: whatever `resolve_model_folder` takes, or an adapter folder, or a run directory that holds one.
        choices: further adapters, each a folder of one or a run directory that holds one.

    Raises:
        DataError: no model or no adapter there, or the base of an adapter has moved.
    """
    path = Path(path)
    found = tuple(AdapterChoice(folder=adapter_folder(choice.folder), weight=choice.weight) for choice in choices)
    if not is_left_alone(path):
        return Adapted(base=resolve_model_folder(path), adapters=found)
    own = AdapterChoice(folder=adapter_folder(path))
    base = describe_adapter(own.folder).base_path
    if base is None or not base.exists():
        where = "does not say which" if base is None else f"was in {base}, which is not there any more"
        raise DataError(
            f"{own.folder} holds an adapter, and the model that it belongs to {where}",
            hint=f"give the model and the adapter: MODEL --adapter {own.folder}",
        )
    return Adapted(base=resolve_model_folder(base), adapters=(own, *found))


def adapter_folder(path: Path) -> Path:
    """The adapter that a path means: a folder of one, or the run directory that holds one.

    Raises:
        DataError: neither.
    """
    if is_adapter_folder(path / RUN_FOLDER) and not is_adapter_folder(path):
        return path / RUN_FOLDER
    describe_adapter(path)  # says what is missing
    return path


def is_left_alone(path: Path) -> bool:
    """Whether there is an adapter at a path, and no finished model that it was merged into."""
    if is_adapter_folder(path):
        return True
    return is_adapter_folder(path / RUN_FOLDER) and not is_model_folder(path) and not is_model_folder(path / "model")
