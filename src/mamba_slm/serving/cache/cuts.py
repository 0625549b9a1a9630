"""Where the reading of a prompt stops for a moment so that its state can be kept."""

from __future__ import annotations

from collections.abc import Iterable


def grid_cuts(length: int, every: int) -> list[int]:
    """Positions inside a prompt, dense near its end and sparse at its beginning.

    Prompts part near their ends more often than near their beginnings, and a state is large. At a distance from the end
    below 4 * every the positions are multiples of `every`, and the spacing doubles with the distance, so that their
    number grows with the logarithm of the length, and what is read again is less than half of what stays behind it.

    >>> grid_cuts(2000, 64)
    [512, 1024, 1280, 1536, 1664, 1792, 1856, 1920, 1984]
    >>> grid_cuts(50, 64), grid_cuts(1000, 0)
    ([], [])
    """
    if not every:
        return []
    return [at for at in range(every, length, every) if at % spacing(length - at, every) == 0]


def spacing(distance: int, every: int) -> int:
    """Distance of neighbouring grid positions, `distance` before the end.

    >>> [spacing(distance, 64) for distance in (1, 127, 255, 256, 511, 512, 1024)]
    [64, 64, 64, 128, 128, 256, 512]
    """
    while distance >= 4 * every:
        every *= 2
    return every


def cuts_between(
    start: int, length: int, *, boundaries: Iterable[int], branch: int, every: int, min_tokens: int
) -> list[int]:
    """All positions behind `start` at which a state is kept; the end is one.

    Args:
        start: tokens that need no reading.
        length: of the prompt.
        boundaries: ends of its messages.
        branch: up to there the prompt agrees with one that was read before.
        every: of the grid; 0: none.
        min_tokens: shorter beginnings are not worth a state.

    >>> cuts_between(0, 300, boundaries=[20, 90, 290], branch=150, every=64, min_tokens=32)
    [64, 90, 128, 150, 192, 256, 290, 300]
    """
    wanted = {*boundaries, branch, *grid_cuts(length, every)}
    return sorted(
        {at for at in wanted if max(start, min_tokens - 1) < at < length} | ({length} if start < length else set())
    )
