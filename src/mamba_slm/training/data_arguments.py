"""What `--data` may say.

PATH                    text (file or folder), token shards, or a folder with train/ and validation/ shards
NAME=PATH               the same under a name
NAME=PATH:WEIGHT        a share of the training tokens, relative to the other weights
FILE.yaml               a mixture, as `mamba-slm data mix` writes it
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.data.mixture_file import MixturePlan, is_mixture_file, read_mixture_file


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """One `--data` argument."""

    name: str
    path: Path
    weight: float | None = None
    """Share of the training tokens relative to the other weights; None means its own size."""


def parse_source(text: str, *, must_exist: bool = True) -> DataSource:
    """Read one `--data` argument. A path that exists is taken as it is, whatever characters it has.

    Args:
        must_exist: False for a plan, which may be made before there is data.

    Raises:
        ConfigError: an empty name, or a weight that is not a positive number.
        DataError: the path does not exist.
    """
    if Path(text).exists():
        return DataSource(name=Path(text).resolve().stem or "data", path=Path(text))
    name, equals, rest = text.partition("=")
    if not equals:
        name, rest = "", text
    path, colon, weight_text = rest.rpartition(":")
    weight = None
    if colon and not Path(rest).exists():
        try:
            weight = float(weight_text)
        except ValueError:
            path = rest
    else:
        path = rest
    if weight is not None and not (weight > 0 and math.isfinite(weight)):
        raise ConfigError(f"the weight in {text!r} must be a positive number")
    if equals and not name:
        raise ConfigError(f"{text!r} has no name before '='", hint="write NAME=PATH:WEIGHT, for example code=src/:2")
    if must_exist and not Path(path).exists():
        raise DataError(f"{path} does not exist", hint="give a text file, a folder, or token shards")
    return DataSource(name=name or Path(path).resolve().stem or "data", path=Path(path), weight=weight)


def parse_sources(texts: Sequence[str], *, must_exist: bool = True) -> list[DataSource]:
    """Read all `--data` arguments; with `must_exist=False` as a plan wants them, there or not.

    Raises:
        ConfigError: none are given, two have the same name, or some have a weight and some none.
    """
    if not texts:
        raise ConfigError("no training data was given", hint="add --data FILE_OR_FOLDER")
    if any(map(is_mixture_file, texts)):
        return [
            DataSource(name=name, path=Path(source.path), weight=source.weight)
            for name, source in mixture_plan(texts).sources.items()
        ]
    sources = [parse_source(text, must_exist=must_exist) for text in texts]
    without = [source.name for source in sources if source.weight is None]
    if 0 < len(without) < len(sources):
        raise ConfigError(
            f"some sources have a weight, and {', '.join(without)} has none",
            hint="give all of them one, --data NAME=PATH:WEIGHT, or none",
        )
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"two sources are called {name!r}", hint=f"name them: --data first={sources[0].path} --data second=…"
            )
    return sources


def mixture_plan(texts: Sequence[str]) -> MixturePlan:
    """What the mixture file of `--data` says; a plan without sources where there is none.

    Raises:
        ConfigError: there is something beside it, or it is not of its form.
        DataError: a folder of it does not exist.
    """
    if not any(map(is_mixture_file, texts)):
        return MixturePlan(sources={})
    if len(texts) > 1:
        raise ConfigError("a mixture file says everything: give it alone", hint="write the other sources into the file")
    plan = read_mixture_file(texts[0])
    for name, source in plan.sources.items():
        if not Path(source.path).exists():
            raise DataError(f"{texts[0]}: {source.path} does not exist", hint=f"mend the path of {name!r} in the file")
    return plan
