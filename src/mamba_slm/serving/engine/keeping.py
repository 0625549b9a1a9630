"""Which states of a request are kept for later prompts, and when."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from mamba_slm.serving.cache.cuts import cuts_between
from mamba_slm.serving.cache.disk.disk_cache import DiskCache, DiskCacheSettings
from mamba_slm.serving.cache.disk.stored_state import StoredState, snapshot_in
from mamba_slm.serving.cache.prefix_cache import PrefixCache
from mamba_slm.serving.engine.executor import Read
from mamba_slm.serving.engine.settings import INVARIANT_PIECE_TOKENS, EngineSettings
from mamba_slm.serving.engine.task import Task
from mamba_slm.serving.memory.pool import Pool, Snapshot


class Keeper:
    """Between an engine and its cache."""

    def __init__(self, cache: PrefixCache, pool: Pool, settings: EngineSettings):
        self._cache, self._pool, self._settings = cache, pool, settings
        self.disk: DiskCache | None = None
        """Where states are kept for the next life of the server, too."""

    def keep_on_disk(
        self, settings: DiskCacheSettings, identity: str, *, say: Callable[[str], None] = lambda line: None
    ) -> DiskCache:
        """Keep states in files, too; before the first request. Arguments and errors as of `DiskCache`."""
        self.disk = DiskCache(settings, identity, self._pool, say=say)
        return self.disk

    def plan_cuts(self, task: Task, branch: int) -> None:
        """Decide where the state of a prompt will be kept; up to `branch` it agrees with one that was read before."""
        if task.request.use_cache and self._settings.cache.max_bytes:
            task.wanted.add(branch)
            task.cuts = sorted({*self._cuts(task, branch), *task.wanted})

    def _cuts(self, task: Task, branch: int) -> list[int]:
        length, settings = len(task.request.prompt), self._settings
        if settings.batch_invariant:
            every = INVARIANT_PIECE_TOKENS
            inner = [at for at in range(every, length, every) if at > task.at]
            return [*inner, length] if task.at < length else []
        return cuts_between(
            task.at,
            length,
            boundaries=task.request.boundaries,
            branch=branch,
            every=settings.cache.every,
            min_tokens=settings.cache.min_tokens,
        )

    def usable(self, length: int) -> Callable[[int], bool] | None:
        """In batch-invariant mode: only states that a prompt of this length would have come to by itself."""
        if not self._settings.batch_invariant:
            return None
        return lambda at: at == length or at % INVARIANT_PIECE_TOKENS == 0

    def inner_cuts(self, task: Task, stop: int) -> list[int]:
        """Positions behind what a task has read and before `stop` whose states are wanted; the scan stops there, which
        moves its rounding, so in batch-invariant mode none."""
        if self._settings.batch_invariant:
            return []
        return [cut for cut in task.cuts if task.at < cut < stop and not self._has(task, cut)]

    def keep(self, task: Task, inner: Sequence[int], read: Read) -> None:
        """Keep what a task has just read: the states at inner cuts, and that at its end where it is one."""
        assert task.sequence is not None
        for cut, mamba in zip(inner, read.states, strict=True):
            self._put(task, self._pool.snapshot(task.sequence, cut, mamba))
        if task.at in task.cuts and not self._has(task, task.at):
            self._put(task, self._pool.snapshot(task.sequence), logits=read.logits.clone())

    def keep_end(self, task: Task) -> None:
        """Keep the state of a finished task for one that goes on from there."""
        assert task.sequence is not None
        if not task.request.use_cache or not self._settings.cache.max_bytes or self._settings.batch_invariant:
            return  # in batch-invariant mode another request would have read these tokens in other pieces
        if not self._has(task, task.sequence.num_tokens):
            self._put(task, self._pool.snapshot(task.sequence))

    def _has(self, task: Task, num_tokens: int) -> bool:
        """Whether the state after so many tokens is in the cache, or would be too short for it."""
        tokens = task.tokens[:num_tokens]
        return num_tokens < self._settings.cache.min_tokens or self._cache.has(task.request.namespace, tokens)

    def _put(self, task: Task, snapshot: Snapshot, *, logits: Tensor | None = None) -> None:
        at, request = snapshot.num_tokens, task.request
        is_guess = at < len(request.prompt) and at not in task.wanted and at not in request.boundaries
        tokens = task.tokens[:at]
        is_kept = self._cache.put(request.namespace, tokens, snapshot, logits=logits, is_guess=is_guess)
        if is_kept and not is_guess and self.disk is not None:
            self.disk.keep(request.namespace, tokens, snapshot, logits)

    def adopt(self, namespace: str, tokens: Sequence[int], state: StoredState) -> None:
        """Put a state of the disk into the cache, if there is room."""
        size = self._pool.block_tokens
        missing = -(-state.num_tokens // size) - self._pool.blocks.num_free
        if missing > 0:
            self._cache.give_up(missing)
        snapshot = snapshot_in(self._pool, state)
        if snapshot is None:
            return
        logits = state.tensors.get("logits")
        self._cache.put(namespace, tokens, snapshot, logits=None if logits is None else logits.to(self._pool.device))
