"""Prompts that were read before are not read again: their states lie in a folder, for later calls and other processes.

The state of a hybrid cannot be cut shorter, so what can be reused is where a state was kept: at the end of every
prompt, every `every` tokens on the way, and where a prompt parts from one that was read before (the end of a prefix
that several prompts share, known from the second one on). Files are bound to the model (`Fingerprint`), are private,
and the ones not used for longest go when there are too many bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mamba_slm.core.errors import CheckpointError, ConfigError, DiskFullError
from mamba_slm.core.units import format_bytes
from mamba_slm.generation.prefill import read_pieces
from mamba_slm.generation.runtime import Runtime
from mamba_slm.generation.speculative.proposals import common_length
from mamba_slm.generation.states.files import load_state, save_state
from mamba_slm.generation.states.fingerprint import Fingerprint

SUFFIX = ".safetensors"
MOST_COMPARED = 256
"""So many entries are looked at for a common beginning, the last used ones."""


@dataclass(frozen=True, kw_only=True)
class PromptCacheSettings:
    """Where states are kept, and which."""

    folder: Path
    """Made when it is not there; readable by its owner only."""

    max_bytes: int = 2**30
    """All files together, of all models."""

    min_tokens: int = 64
    """Shorter beginnings are read again."""

    every: int = 512
    """A state is kept at each multiple of this, too; 0: not on the way."""

    def __post_init__(self) -> None:
        if self.max_bytes < 1 or self.min_tokens < 1 or self.every < 0:
            raise ConfigError(
                f"a prompt cache needs room and whole numbers of tokens, got max_bytes={self.max_bytes}, "
                f"min_tokens={self.min_tokens}, every={self.every}"
            )


@dataclass
class CacheCounts:
    """What the cache was good for."""

    prompts: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    """Of them, those whose state was there."""
    written: int = 0
    """States kept."""

    def __str__(self) -> str:
        share = f"{self.reused_tokens:,} of {self.prompt_tokens:,} prompt tokens reused"
        return f"{share}, {self.written} state{'' if self.written == 1 else 's'} kept"


class PromptCache:
    """Reads prompts for a runtime; set as its `prompt_reader`."""

    def __init__(
        self, settings: PromptCacheSettings, fingerprint: Fingerprint, *, say: Callable[[str], None] = lambda line: None
    ):
        """
        Args:
            fingerprint: of the runtime that will be read with.
            say: told what went wrong with a file, and what no longer fits.
        """
        self.settings = settings
        self.counts = CacheCounts()
        self._fingerprint = fingerprint
        self._say = say
        self._folder = settings.folder / fingerprint.digest
        for folder in (settings.folder, self._folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def read(self, runtime: Runtime[Any], prompts: Sequence[Sequence[int]], state: Any) -> Tensor | None:
        """Read prompts into a state of as many rows before its first token; logits [b v] after each.

        Of several prompts the common beginning is read once, through the cache. None: the cache can do nothing for
        them, and the state is as it was.
        """
        if state.num_tokens.any():
            return None
        self.counts.prompts += len(prompts)
        self.counts.prompt_tokens += sum(map(len, prompts))
        if len(prompts) == 1:
            return self._read_one(runtime, list(prompts[0]), state)
        shared = min(min(common_length(prompts[0], prompt) for prompt in prompts), min(map(len, prompts)) - 1)
        if shared < self.settings.min_tokens:
            return None
        one = runtime.new_state(1)
        self._read_one(runtime, list(prompts[0][:shared]), one)
        self.counts.reused_tokens += shared * (len(prompts) - 1)
        state.restore(one.fork(len(prompts)))
        return read_pieces(runtime, [prompt[shared:] for prompt in prompts], state)

    def _read_one(self, runtime: Runtime[Any], prompt: list[int], state: Any) -> Tensor:
        """Continue the longest beginning that is there, and keep states on the way."""
        at, logits = self._resume(runtime, prompt, state)
        self.counts.reused_tokens += at
        for cut in self._cuts(prompt, at):
            logits = read_pieces(runtime, [prompt[at:cut]], state)
            at = cut
            self._keep(prompt[:at], state, logits)
        assert logits is not None
        return logits

    def _resume(self, runtime: Runtime[Any], prompt: list[int], state: Any) -> tuple[int, Tensor | None]:
        """Put the longest beginning with a state into `state`: its length, and the logits after it if nothing is left
        to read."""
        lengths = {length for length, _ in self._entries() if length <= len(prompt)}
        for length in sorted(lengths, reverse=True):
            file = self._file(prompt[:length])
            if not file.is_file():
                continue
            try:
                saved = load_state(file, runtime, self._fingerprint)
            except CheckpointError as error:
                self._say(f"prompt cache: {error.message}; read again")
                file.unlink(missing_ok=True)
                continue
            if saved.tokens != (tuple(prompt[:length]),) or (length == len(prompt) and saved.logits is None):
                continue
            with contextlib.suppress(OSError):
                os.utime(file)  # used now
            state.restore(saved.state)
            return length, saved.logits
        return 0, None

    def _cuts(self, prompt: list[int], at: int) -> list[int]:
        """Where the rest of the prompt is cut to keep a state; the last is its end."""
        end, every = len(prompt), self.settings.every
        cuts = {end} if at < end else set()
        cuts |= set(range(every, end, every)) if every else set()
        cuts.add(max((common_length(prompt, read) for read in self._prompts(longer_than=at)), default=0))
        return sorted(cut for cut in cuts if at < cut <= end and (cut >= self.settings.min_tokens or cut == end))

    def _keep(self, tokens: list[int], state: Any, logits: Tensor) -> None:
        """Write a state, unless it is there or too short, and make room."""
        file = self._file(tokens)
        if len(tokens) < self.settings.min_tokens or file.exists():
            return
        try:
            written = save_state(file, state, self._fingerprint, tokens=[tokens], logits=logits)
        except (OSError, DiskFullError) as error:
            self._say(f"prompt cache: nothing was kept: {error}")
            return
        self.counts.written += 1
        if written > self.settings.max_bytes:
            file.unlink(missing_ok=True)
            size = format_bytes(written)
            self._say(f"prompt cache: a state of {len(tokens):,} tokens takes {size}, more than the cache may")
        self._make_room(keep=file)

    def _make_room(self, *, keep: Path) -> None:
        """Delete the files that were not used for longest until the others fit."""
        files = []
        for file in self.settings.folder.glob(f"*/*{SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                found = file.stat()
                files.append((file == keep, found.st_mtime_ns, found.st_size, file))
        total = sum(size for _, _, size, _ in files)
        for _, _, size, file in sorted(files):
            if total <= self.settings.max_bytes:
                return
            file.unlink(missing_ok=True)
            total -= size

    def _entries(self) -> list[tuple[int, Path]]:
        """Length and file of every state of this model."""
        found = ((file.name.partition("-")[0], file) for file in self._folder.glob(f"*-*{SUFFIX}"))
        return [(int(length), file) for length, file in found if length.isdigit()]

    def _prompts(self, *, longer_than: int) -> list[list[int]]:
        """What was read by the states that were used last."""
        entries = [(file, length) for length, file in self._entries() if length > longer_than]
        read = []
        for file, _ in sorted(entries, key=lambda entry: -last_used(entry[0]))[:MOST_COMPARED]:
            with contextlib.suppress(SafetensorError, OSError), safe_open(file, framework="pt") as opened:
                read.append(opened.get_tensor("tokens.0").tolist())
        return read

    def _file(self, tokens: Sequence[int]) -> Path:
        digest = hashlib.sha256(np.asarray(tokens, dtype="<i8").tobytes()).hexdigest()[:32]
        return self._folder / f"{len(tokens)}-{digest}{SUFFIX}"


def last_used(file: Path) -> float:
    """Seconds since the epoch; now for a file that another process has just deleted."""
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return time.time()
