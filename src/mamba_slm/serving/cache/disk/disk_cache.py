"""States of prompts that outlive the server: written behind its back, read again when a prompt asks for them.

What is written: the ends of prompts, of answers and of messages, and where prompts part; not the sparse grid on the
way. A thread of its own writes, so no step waits for the disk; reading and checking is done in the threads of the API.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mamba_slm.core.errors import CheckpointError, ConfigError
from mamba_slm.serving.cache.disk.entry import packed, unpacked
from mamba_slm.serving.cache.disk.folder import EntryFiles
from mamba_slm.serving.cache.disk.names import key_of, name_of, names_of, secret_of
from mamba_slm.serving.cache.disk.stored_state import StoredState, checked, state_of
from mamba_slm.serving.memory.pool import Pool, Snapshot


@dataclass(frozen=True, kw_only=True)
class DiskCacheSettings:
    """Where states are kept between two lives of a server, and how many."""

    folder: Path
    """Made when it is not there; mode 0700, files 0600."""

    max_bytes: int = 4 * 2**30
    """Of all files in it; what was not used for longest goes."""

    min_tokens: int = 64
    """Shorter beginnings are read again."""

    max_waiting_bytes: int = 2**28
    """Of states that wait for the disk; more are not kept."""

    def __post_init__(self) -> None:
        if min(self.max_bytes, self.min_tokens, self.max_waiting_bytes) < 1:
            raise ConfigError(f"a disk cache needs room, got {self}")


@dataclass
class DiskCounts:
    """Since the start."""

    written: int = 0
    """States."""
    restored: int = 0
    """States that were read for a prompt."""
    restored_tokens: int = 0
    """That did not have to be read by the model for that."""
    refused: int = 0
    """Entries that were damaged or foreign, and are deleted."""
    dropped: int = 0
    """States that were not written as too many waited or the disk failed."""

    def __str__(self) -> str:
        words = f"{self.written} states written, {self.restored} restored ({self.restored_tokens:,} tokens)"
        words += f", {self.refused} refused" if self.refused else ""
        return words + (f", {self.dropped} not written" if self.dropped else "")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A state that lies on the disk."""

    name: str
    key: bytes
    tokens: tuple[int, ...]


class DiskCache:
    """See above."""

    def __init__(
        self,
        settings: DiskCacheSettings,
        identity: str,
        pool: Pool,
        *,
        say: Callable[[str], None] = lambda line: None,
    ):
        """
        Args:
            identity: of the model as it runs (`generation.states.fingerprint.Fingerprint.digest`).
            say: told what was refused, and what could not be written.

        Raises:
            DataError: others can read or change the folder.
        """
        self.settings, self.counts = settings, DiskCounts()
        self.files = EntryFiles(settings.folder, identity, max_bytes=settings.max_bytes)
        self._secret, self._pool, self._say = secret_of(settings.folder), pool, say
        self._waiting: queue.SimpleQueue[tuple[str, bytes, StoredState] | None] = queue.SimpleQueue()
        self._waiting_bytes, self._waiting_names = 0, set[str]()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._write, name="mamba-slm-disk-cache", daemon=True)
        self._thread.start()

    def keep(self, namespace: str, tokens: Sequence[int], snapshot: Snapshot, logits: Tensor | None) -> None:
        """On the engine's thread: copy a state, to be written later."""
        if len(tokens) < self.settings.min_tokens:
            return
        key = key_of(self._secret, namespace)
        name = name_of(key, tokens)
        if name in self.files or name in self._waiting_names:
            return
        if self._waiting_bytes > self.settings.max_waiting_bytes:
            self.counts.dropped += 1
            return
        state = state_of(self._pool, snapshot, logits)
        with self._lock:
            self._waiting_bytes += state.num_bytes
            self._waiting_names.add(name)
        self._waiting.put((name, key, state))

    def find(self, namespace: str, prompt: Sequence[int]) -> Candidate | None:
        """On any thread: the longest beginning of a prompt that lies on the disk. Reads nothing."""
        lengths = self.files.lengths
        if not lengths:
            return None
        key = key_of(self._secret, namespace)
        there = [(length, name) for length, name in names_of(key, prompt, lengths) if name in self.files]
        if not there:
            return None
        length, name = there[-1]
        return Candidate(name=name, key=key, tokens=tuple(prompt[:length]))

    def read(self, candidate: Candidate) -> StoredState | None:
        """On any thread: a state, checked; None where it has gone or is not what it should be, which is deleted."""
        try:
            data = self.files.read(candidate.name)
            if data is None:
                return None
            tensors = unpacked(data, key=candidate.key, name=candidate.name)
            state = checked(self._pool, len(candidate.tokens), tensors)
        except (OSError, CheckpointError) as error:
            self.files.delete(candidate.name)
            self.counts.refused += 1
            self._say(f"prefix cache: a state on the disk was refused and deleted: {error}")
            return None
        self.counts.restored += 1
        self.counts.restored_tokens += len(candidate.tokens)
        return state

    def close(self) -> None:
        """Write what waits, and stop; once more does no harm."""
        self._waiting.put(None)
        self._thread.join()

    def _write(self) -> None:
        """The thread."""
        told = False
        while (waiting := self._waiting.get()) is not None:
            name, key, state = waiting
            try:
                self.files.write(name, packed(state.tensors, key=key, name=name))
                self.counts.written += 1
            except (OSError, MemoryError) as error:
                self.counts.dropped += 1
                if not told:
                    self._say(f"prefix cache: states cannot be written to {self.settings.folder}: {error}")
                told = True
            with self._lock:
                self._waiting_bytes -= state.num_bytes
                self._waiting_names.discard(name)
