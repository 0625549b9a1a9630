"""States of prompts that were read, to be continued by those that begin in the same way.

A namespace (adapter and salt) has a tree of its own. What goes first where there is no room saves the fewest FLOPs per
byte and use (Marconi, arXiv:2411.19379): FLOPs from the nearest state before it to its own, over the bytes that would
become free, less with every prompt since it was used last. States that were kept at regular distances, for a prompt
that may part from an earlier one anywhere, count less than those at the ends of prompts and messages until they are
used.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mamba_slm.core.errors import ConfigError
from mamba_slm.serving.cache.counts import CacheCounts, Miss
from mamba_slm.serving.cache.entry import Entry, Found, Kept, Memory
from mamba_slm.serving.cache.radix import Match, Node, RadixTree, nearest_above, nearest_below

MOST_GHOSTS, MOST_GHOST_TOKENS = 4096, 2**20
"""So many evicted states, and tokens before them, are remembered at most, to tell why a prompt missed."""
HALF_LIFE = 64
"""A state that was not used for so many prompts is worth half."""
GUESS_WORTH = 1 / 8
"""Of a state at a place where nothing ended and nothing parted, beside one where something did."""


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """What is kept, and how much of it."""

    max_bytes: int = 2**30
    """States, and keys and values that nobody else holds; 0 keeps nothing."""

    every: int = 64
    """Tokens between states near the end of a prompt, further before it ever more (`cuts.grid_cuts`); 0: none."""

    min_tokens: int = 16
    """Shorter beginnings are read again."""

    def __post_init__(self) -> None:
        if self.max_bytes < 0 or self.every < 0 or self.min_tokens < 1:
            raise ConfigError(
                f"a prefix cache needs room and whole numbers of tokens, got max_bytes={self.max_bytes}, "
                f"every={self.every}, min_tokens={self.min_tokens}"
            )


class PrefixCache:
    """See above. It decides; `drop` gives the memory of a state back."""

    def __init__(
        self,
        settings: CacheSettings,
        *,
        memory: Memory,
        block_bytes: int,
        flops: Callable[[int], float],
        drop: Callable[[Kept], None],
    ):
        """
        Args:
            memory: of the blocks that states hold.
            flops: of reading so many tokens from the beginning.
        """
        self.settings, self.counts = settings, CacheCounts()
        self._memory, self._block_bytes, self._flops, self._drop = memory, block_bytes, flops, drop
        self._trees: dict[str, RadixTree[Entry]] = {}
        self._nodes: dict[Node[Entry], str] = {}
        self._ghosts: dict[Node[Entry], str] = {}
        """Evicted states that are remembered, the oldest first, with their namespaces."""
        self._ghost_tokens = 0
        self._held: Counter[int] = Counter()
        self._state_bytes = 0
        self._heap: list[tuple[float, int, Node[Entry]]] = []
        """Ranks, the lowest first; those of states that are gone, and older ones of others, too."""
        self._serial = 0
        self._reclaimable = (-1, 0)
        """At how many changes of the memory the number of reclaimable blocks was counted."""

    @property
    def num_bytes(self) -> int:
        """States and the blocks that they hold, each block once."""
        return self._state_bytes + len(self._held) * self._block_bytes

    def __len__(self) -> int:
        """States."""
        return len(self._nodes)

    def reclaimable_blocks(self) -> int:
        """Blocks that nobody but this cache holds."""
        if self._reclaimable[0] != self._memory.changes:
            count = sum(self._memory.owners(block) == held for block, held in self._held.items())
            self._reclaimable = (self._memory.changes, count)
        return self._reclaimable[1]

    def find(
        self,
        namespace: str,
        tokens: Sequence[int],
        *,
        enabled: bool = True,
        usable: Callable[[int], bool] | None = None,
    ) -> Found:
        """The longest beginning of a prompt whose state is there; counts.

        Args:
            enabled: False: the request does not want it.
            usable: which lengths may be continued; None: all.
        """
        self.counts.queries += 1
        self.counts.prompt_tokens += len(tokens)
        if not enabled or not self.settings.max_bytes:
            self.counts.misses["disabled"] += 1
            return Found(length=0, entry=None, branch=0, miss="disabled")
        tree = self._trees.get(namespace)
        match = Match((), 0) if tree is None else tree.match(tokens)
        for node in reversed(match.path):
            entry = node.value
            if entry is None or (usable is not None and not usable(node.depth)):
                continue
            if node.depth < len(tokens) or entry.logits is not None:
                entry.used, entry.is_guess = self.counts.queries, False
                self.counts.hits += 1
                self.counts.reused_tokens += node.depth
                return Found(length=node.depth, entry=entry, branch=match.common, miss=None)
        miss = self._why(namespace, tokens, match)
        self.counts.misses[miss] += 1
        return Found(length=0, entry=None, branch=match.common, miss=miss)

    def _why(self, namespace: str, tokens: Sequence[int], match: Match[Entry]) -> Miss:
        """Why nothing was found."""
        least = self.settings.min_tokens
        if len(tokens) <= least:
            return "too_short"
        if any(node.had_value for node in match.path):
            return "evicted"
        others = (tree.match(tokens) for name, tree in self._trees.items() if name != namespace)
        if match.common < least and any(other.common >= least for other in others):
            return "salt"
        return "no_match" if match.common == 0 else "too_short" if match.common < least else "no_match"

    def has(self, namespace: str, tokens: Sequence[int]) -> bool:
        """Whether a state of exactly these tokens is there."""
        tree = self._trees.get(namespace)
        last = None if tree is None else tree.match(tokens).path[-1]
        return last is not None and last.depth == len(tokens) and last.value is not None

    def depth(self, namespace: str, tokens: Sequence[int]) -> int:
        """Tokens of the longest beginning whose state is there; counts nothing."""
        tree = self._trees.get(namespace)
        path = () if tree is None else tree.match(tokens).path
        return max((node.depth for node in path if node.value is not None), default=0)

    def put(
        self,
        namespace: str,
        tokens: Sequence[int],
        kept: Kept,
        *,
        logits: object | None = None,
        is_guess: bool = False,
    ) -> bool:
        """Keep a state, or drop it at once where it is there already, too short, or larger than all the room.

        Args:
            is_guess: nothing ends here, and nothing is known to part here.

        Returns:
            Whether it stays.
        """
        alone = kept.num_bytes + len(kept.blocks) * self._block_bytes
        if len(tokens) < self.settings.min_tokens or alone > self.settings.max_bytes or self.has(namespace, tokens):
            self._drop(kept)
            return False
        tree = self._trees.setdefault(namespace, RadixTree())
        node = tree.put(tokens, Entry(kept=kept, logits=logits, used=self.counts.queries, is_guess=is_guess))
        if self._ghosts.pop(node, None) is not None:
            self._ghost_tokens -= node.depth
        self._nodes[node] = namespace
        self._state_bytes += kept.num_bytes
        self._held.update(kept.blocks)
        self.counts.stored += 1
        for one in (node, *nearest_below(node)):
            self._rank(one)
        while self.num_bytes > self.settings.max_bytes:
            self._evict_one()
        return node in self._nodes

    def give_up(self, num_blocks: int) -> bool:
        """Evict until so many blocks became free, or nothing is left; whether they did."""
        freed = 0
        while freed < num_blocks and self._nodes:
            freed += self._evict_one()
        return freed >= num_blocks

    def clear(self) -> None:
        """Drop everything."""
        for node in list(self._nodes):
            self._remove(node, remember=False)
        self._trees.clear()
        self._ghosts.clear()
        self._ghost_tokens = 0
        self._heap.clear()

    def rank(self, node: Node[Entry]) -> float:
        """The logarithm of the FLOPs that a state saves per byte that it alone takes, as of the prompt counted 0.

        All are worth less with time, at one rate, so that time changes no order: none has to be looked at again for it.
        """
        entry = node.value
        assert entry is not None
        above = nearest_above(node)
        saved = self._flops(node.depth) - self._flops(0 if above is None else above.depth)
        mine = sum(self._held[block] == 1 for block in entry.kept.blocks)
        worth = saved / max(entry.kept.num_bytes + mine * self._block_bytes, 1) * (GUESS_WORTH if entry.is_guess else 1)
        return math.log2(max(worth, 1e-300)) + entry.used / HALF_LIFE

    def _rank(self, node: Node[Entry]) -> None:
        """Note what a state is worth now. Who is worth more than was noted is met too early, and noted again then; so
        this is needed only where something is worth less."""
        entry = node.value
        assert entry is not None
        entry.rank = self.rank(node)
        self._serial += 1
        heapq.heappush(self._heap, (entry.rank, self._serial, node))
        if len(self._heap) > 4 * len(self._nodes) + 64:
            self._heap = [
                (one.value.rank, number, one) for number, one in enumerate(self._nodes) if one.value is not None
            ]
            heapq.heapify(self._heap)

    def _least(self) -> Node[Entry]:
        """The state that is worth least."""
        while True:
            rank, _, node = heapq.heappop(self._heap)
            if node not in self._nodes or node.value is None or node.value.rank != rank:
                continue
            if self.rank(node) <= rank:
                return node
            self._rank(node)

    def _forget(self, node: Node[Entry], namespace: str) -> None:
        """Let what only tells that a state was there go, and its tree with the last of it: salts may be many."""
        self._ghost_tokens -= node.depth
        tree = self._trees[namespace]
        tree.forget(node)
        if not tree.root.children:
            del self._trees[namespace]

    def _evict_one(self) -> int:
        """Let the state go that is worth least; how many blocks became free."""
        node = self._least()
        entry, above = node.value, nearest_above(node)
        assert entry is not None
        freed = sum(self._memory.owners(block) == 1 for block in entry.kept.blocks)
        self._remove(node, remember=True)
        if above is not None:  # blocks that both held are its own now
            self._rank(above)
        self.counts.evicted += 1
        return freed

    def _remove(self, node: Node[Entry], *, remember: bool) -> None:
        """Take a state out and drop it."""
        namespace = self._nodes.pop(node)
        tree = self._trees[namespace]
        entry = tree.take(node, remember=remember)
        if remember:
            self._ghosts[node] = namespace
            self._ghost_tokens += node.depth
            while len(self._ghosts) > MOST_GHOSTS or self._ghost_tokens > MOST_GHOST_TOKENS:
                oldest = next(iter(self._ghosts))
                self._forget(oldest, self._ghosts.pop(oldest))
        self._state_bytes -= entry.kept.num_bytes
        self._held.subtract(entry.kept.blocks)
        for block in entry.kept.blocks:
            if self._held[block] == 0:
                del self._held[block]
        self._drop(entry.kept)
