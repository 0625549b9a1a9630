"""Token sequences as a tree of what they share, so that a shared beginning is read once.

The choices of a question share the question, questions of a subject share their few-shot examples. A node is a run of
tokens that follows its parent's; a path from a root to a node is a sequence or the beginning of several.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

WORTH_SHARING = 16
"""Tokens. A node costs a call of the model and copies of a state, which takes as long as a few tokens: what saves less
is read again by every branch."""

Tokens = Sequence[int]


@dataclass(eq=False)
class Node:
    """Tokens [start, end) of every sequence below it."""

    tokens: tuple[int, ...]
    start: int
    """Position of the first of `tokens`."""
    children: list[Node] = field(default_factory=list)

    @property
    def end(self) -> int:
        """Position behind the last of `tokens`."""
        return self.start + len(self.tokens)


@dataclass(frozen=True)
class PrefixTree:
    """The roots, and for each sequence the nodes from its root to its end."""

    roots: list[Node]
    paths: list[list[Node]]

    @property
    def num_tokens(self) -> int:
        """Tokens in all nodes: what must be read."""
        waiting, total = list(self.roots), 0
        while waiting:
            node = waiting.pop()
            total += len(node.tokens)
            waiting += node.children
        return total


def common_prefix(a: Tokens, b: Tokens) -> int:
    """How many tokens two sequences begin with together."""
    shortest = min(len(a), len(b))
    return next((i for i in range(shortest) if a[i] != b[i]), shortest)


def prefix_tree(sequences: Sequence[Tokens], *, worth_sharing: int = WORTH_SHARING) -> PrefixTree:
    """The tree of `sequences`, each of at least one token; the same for any order of them.

    A beginning becomes a node of its own where that saves at least `worth_sharing` tokens:

    >>> tree = prefix_tree([[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 3]], worth_sharing=3)
    >>> tree.num_tokens, [[node.tokens for node in path] for path in tree.paths]
    (5, [[(1, 2, 3), (4,)], [(1, 2, 3), (5,)], [(1, 2, 3)]])
    """
    keys = [tuple(sequence) for sequence in sequences]
    ordered = sorted(set(keys))
    shared = [0, *(common_prefix(a, b) for a, b in itertools.pairwise(ordered))]
    paths: dict[tuple[int, ...], list[Node]] = {}
    roots: list[Node] = []
    # (first, last + 1, position from which tokens are not in a node yet, nodes above, where to put what is found)
    waiting: list[tuple[int, int, int, list[Node], list[Node]]] = [(0, len(ordered), 0, [], roots)]
    while waiting:
        first, end, start, above, siblings = waiting.pop()
        if first == end:
            continue
        together = min(shared[first + 1 : end], default=len(ordered[first]))
        cuts = [first, *(i for i in range(first + 1, end) if shared[i] == together), end]
        groups = list(itertools.pairwise(cuts))
        ends_here = len(ordered[first]) == together  # the first of a group may be the beginning of all the others
        saved = (together - start) * (len(groups) - 1)
        if len(groups) == 1 or (saved > 0 and saved >= worth_sharing):
            node = Node(ordered[first][start:together], start)
            siblings.append(node)
            above, siblings, start = [*above, node], node.children, together
            if ends_here:
                paths[ordered[first]] = above
                groups = groups[1:]
        elif ends_here:
            node = Node(ordered[first][start:together], start)
            siblings.append(node)
            paths[ordered[first]] = [*above, node]
            groups = groups[1:]
        waiting += [(a, b, start, above, siblings) for a, b in reversed(groups)]
    return PrefixTree(roots, [paths[key] for key in keys])
