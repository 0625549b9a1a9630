"""Where the reading of a prompt stops for a moment so that its state can be kept."""

from __future__ import annotations

from collections.abc import Iterable


def grid_cuts(length: int, every: int) -> list[int]:
    """Positions inside a prompt, so dense that one which parts from it anywhere reads little again.

    Neighbours are twice `every` apart, or a power of two times that where this is at most an eighth of what stands
    before them: who parts there reads that eighth again at most, and its new part. Near the end, where most part, they
    are denser: `every` apart at a distance below 4 * every, and with double the distance half as dense. So their number
    grows with the logarithm of the length. Each costs memory, and a moment while the prompt is read.

    >>> grid_cuts(2000, 64)
    [128, 256, 384, 512, 640, 768, 896, 1024, 1152, 1280, 1408, 1536, 1664, 1792, 1856, 1920, 1984]
    >>> grid_cuts(50, 64), grid_cuts(1000, 0)
    ([], [])
    >>> [len(grid_cuts(length, 64)) for length in (2048, 4096, 8192, 65536)]
    [17, 27, 37, 67]
    """
    if not every:
        return []
    return [at for at in range(every, length, every) if at % spacing(at, length - at, every) == 0]


def spacing(before: int, behind: int, every: int) -> int:
    """Distance of neighbouring grid positions where so many tokens stand before and behind.

    >>> [spacing(before, 10_000, 64) for before in (64, 2047, 2048, 4096)], [spacing(9000, n, 64) for n in (255, 256)]
    ([128, 128, 256, 512], [64, 128])
    """
    first = every
    while behind >= 4 * every and (every == first or before >= 16 * every):
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
