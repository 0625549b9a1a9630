"""Where the reading of a prompt stops for a moment so that its state can be kept."""

from __future__ import annotations

from collections.abc import Iterable


def grid_cuts(length: int, every: int) -> list[int]:
    """Positions inside a prompt, so dense that one which parts from it anywhere reads little again.

    Neighbours are `every` tokens apart, or a power of two times that where this is at most a sixteenth of what stands
    before them: then a prompt that parts there is read in a sixteenth of its time, and its new part. Near the end,
    where most part, they are denser: at a distance below 4 * every always `every` apart, with double the distance half
    as dense. So their number grows with the logarithm of the length.

    >>> grid_cuts(300, 64), grid_cuts(50, 64), grid_cuts(1000, 0)
    ([64, 128, 192, 256], [], [])
    >>> [len(grid_cuts(length, 64)) for length in (2048, 4096, 8192, 65536)]
    [31, 49, 67, 121]
    """
    if not every:
        return []
    return [at for at in range(every, length, every) if at % spacing(at, length - at, every) == 0]


def spacing(before: int, behind: int, every: int) -> int:
    """Distance of neighbouring grid positions where so many tokens stand before and behind.

    >>> [spacing(before, 10_000, 64) for before in (64, 2047, 2048, 4096)], [spacing(9000, n, 64) for n in (255, 256)]
    ([64, 64, 128, 256], [64, 128])
    """
    while behind >= 4 * every and before >= 32 * every:
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
