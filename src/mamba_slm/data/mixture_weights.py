"""What weights a mixture may have, and weights from sizes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from mamba_slm.core.errors import ConfigError, DataError, UnknownNameError
from mamba_slm.data.shards import TokenShards


def require_fitting(sources: Sequence[tuple[str, TokenShards, float | None]]) -> None:
    """Refuse sources that make no mixture.

    Raises:
        ConfigError, DataError: see `Mixture`.
    """
    if not sources:
        raise ConfigError("a mixture needs at least one source")
    names = [name for name, _, _ in sources]
    if len(set(names)) < len(names):
        raise ConfigError(f"two sources of the mixture have the same name: {', '.join(names)}")
    for name, shards, weight in sources:
        if weight is not None and not (weight > 0 and weight < float("inf")):
            raise ConfigError(f"the weight of source {name!r} must be positive, got {weight}")
        if shards.num_documents == 0:
            raise DataError(f"source {name!r} ({shards.folder}) holds no documents")
        if shards.tokenizer_fingerprint != sources[0][1].tokenizer_fingerprint:
            raise DataError(
                f"sources {names[0]!r} and {name!r} were tokenized with different tokenizers",
                hint="tokenize both with the same one: mamba-slm data tokenize --tokenizer …",
            )
    without = [name for name, _, weight in sources if weight is None]
    if 0 < len(without) < len(sources):
        raise ConfigError(
            f"some sources have a weight, and {', '.join(without)} has none", hint="give all of them one, or none"
        )


def ordered(
    asked: Sequence[tuple[int, Mapping[str, float]]], names: Mapping[str, object]
) -> list[tuple[int, Mapping[str, float]]]:
    """Weights by their first sample, checked.

    Raises:
        ConfigError: a change before the one in front of it.
        UnknownNameError: a weight for a source that there is not.
    """
    for (first, _), (following, weights) in itertools.pairwise(asked):
        if following <= first:
            raise ConfigError(f"weights change at row {following}, which is not after row {first}")
        unknown = [name for name in weights if name not in names]
        if unknown:
            raise UnknownNameError("source", unknown[0], names)
    return list(asked)


def tempered(sizes: Mapping[str, int], temperature: float) -> dict[str, float]:
    """Weights size ** (1 / temperature).

    >>> tempered({"large": 10_000, "small": 100}, 2)
    {'large': 100.0, 'small': 10.0}

    Raises:
        ConfigError: the temperature is not a positive number.
    """
    if not (temperature > 0 and temperature < float("inf")):
        raise ConfigError(f"the temperature of a mixture must be positive, got {temperature}")
    if temperature == 1:
        return dict(sizes)
    return {name: size ** (1 / temperature) for name, size in sizes.items()}
