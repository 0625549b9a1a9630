"""A tree over token sequences: what is stored under a sequence, and how far another one agrees with what is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(eq=False)
class Node(Generic[T]):
    """The end of one sequence; `edge` leads to it from its parent."""

    edge: tuple[int, ...]
    depth: int
    """Tokens from the root."""
    parent: Node[T] | None
    value: T | None = None
    had_value: bool = False
    """Whether something was stored here and was taken away again."""
    children: dict[int, Node[T]] = field(default_factory=dict)


@dataclass(frozen=True)
class Match(Generic[T]):
    """How a sequence agrees with the tree."""

    path: tuple[Node[T], ...]
    """Nodes that are beginnings of the sequence, from the root on."""
    common: int
    """Tokens that agree with something in the tree: the depth of the last node, or further within an edge."""


class RadixTree(Generic[T]):
    """Values under sequences of tokens. A node without a value and with fewer than two children does not stay."""

    def __init__(self) -> None:
        self.root: Node[T] = Node((), 0, None)

    def match(self, tokens: Sequence[int]) -> Match[T]:
        """Follow a sequence as far as it agrees."""
        tokens = tuple(tokens)
        node, path = self.root, [self.root]
        while True:
            child = node.children.get(tokens[node.depth]) if node.depth < len(tokens) else None
            if child is None:
                return Match(tuple(path), node.depth)
            shared = common_length(child.edge, tokens, node.depth)
            if shared < len(child.edge):
                return Match(tuple(path), node.depth + shared)
            node = child
            path.append(node)

    def put(self, tokens: Sequence[int], value: T) -> Node[T]:
        """Store a value under a sequence, in place of an older one."""
        found = self.match(tokens)
        node = found.path[-1]
        if found.common > node.depth:
            node = self._split(node.children[tokens[node.depth]], found.common - node.depth)
        if node.depth < len(tokens):
            child: Node[T] = Node(tuple(tokens[node.depth :]), len(tokens), node)
            node.children[child.edge[0]] = child
            node = child
        node.value, node.had_value = value, False
        return node

    def take(self, node: Node[T], *, remember: bool = False) -> T:
        """Take the value of a node away. With `remember` the node stays, to tell that something was there."""
        value = node.value
        assert value is not None, "the node has no value"
        node.value, node.had_value = None, remember
        self._prune(node)
        return value

    def forget(self, node: Node[T]) -> None:
        """Let a node that only tells that something was there go."""
        node.had_value = False
        self._prune(node)

    def nodes(self) -> Iterator[Node[T]]:
        """All nodes but the root."""
        stack = list(self.root.children.values())
        while stack:
            node = stack.pop()
            yield node
            stack += node.children.values()

    def _split(self, child: Node[T], at: int) -> Node[T]:
        """A node within the edge of another, `at` tokens behind its parent."""
        parent = child.parent
        assert parent is not None
        middle: Node[T] = Node(child.edge[:at], parent.depth + at, parent)
        parent.children[middle.edge[0]] = middle
        child.edge, child.parent = child.edge[at:], middle
        middle.children[child.edge[0]] = child
        return middle

    def _prune(self, node: Node[T]) -> None:
        """Remove nodes that say nothing, from `node` upwards."""
        while node.parent is not None and node.value is None and not node.had_value and len(node.children) < 2:
            parent = node.parent
            if node.children:
                (child,) = node.children.values()
                child.edge, child.parent = node.edge + child.edge, parent
                parent.children[child.edge[0]] = child
                return
            del parent.children[node.edge[0]]
            node = parent


def common_length(edge: Sequence[int], tokens: Sequence[int], start: int) -> int:
    """How many tokens of `edge` agree with `tokens`, which is of the same type, from `start` on.

    >>> common_length((5, 6, 7), (1, 5, 6, 8), 1)
    2
    """
    low, high = 0, max(min(len(edge), len(tokens) - start), 0)
    if edge[:high] == tokens[start : start + high]:
        return high
    while high - low > 1:  # comparing slices is a hundred times as fast as comparing tokens one by one
        middle = (low + high) // 2
        if edge[low:middle] == tokens[start + low : start + middle]:
            low = middle
        else:
            high = middle
    return low


def nearest_above(node: Node[T]) -> Node[T] | None:
    """The deepest node with a value on the way from the root, `node` itself left out."""
    above = node.parent
    while above is not None and above.value is None:
        above = above.parent
    return above


def nearest_below(node: Node[T]) -> Iterator[Node[T]]:
    """The nodes with a value that have `node` as the nearest one above, or would have if it had a value."""
    stack = list(node.children.values())
    while stack:
        below = stack.pop()
        if below.value is None:
            stack += below.children.values()
        else:
            yield below
