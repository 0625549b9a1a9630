"""Which adapters a server offers, and those of them that are in memory.

Every folder in the directory of adapters is one by its name. What was not used for longest goes from memory where a new
one needs room, and is read again when a request asks for it; one that a running request uses stays.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mamba_slm.core.errors import DataError, SetupError, UnknownNameError, UsageError
from mamba_slm.core.units import format_bytes
from mamba_slm.model.adapter_choice import RUN_FOLDER
from mamba_slm.model.adapter_folder import is_adapter_folder
from mamba_slm.serving.adapters.loaded import LoadedAdapter
from mamba_slm.serving.engine.holds import Holds

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""What an adapter may be called; no name leads out of its directory."""


class AdapterExistsError(UsageError):
    """It is offered already."""


class NoRoomError(SetupError):
    """The adapters in use leave no memory for another."""


@dataclass(frozen=True, kw_only=True)
class AdapterSettings:
    """Where adapters are, and how much memory they may take."""

    folder: Path
    """Each folder in it that holds an adapter is one by its name."""

    max_bytes: int = 2**30
    """Of all adapters in memory; those in use count."""


class AdapterStore(Holds):
    """Used by the threads of the API and by that of the engine."""

    def __init__(
        self,
        settings: AdapterSettings,
        read: Callable[[str, Path], LoadedAdapter],
        *,
        say: Callable[[str], None] = lambda line: None,
    ):
        """Offer what is there; nothing is read yet.

        Args:
            read: reads the adapter of a name from a folder.
            say: told what was read and what had to go.

        Raises:
            DataError: no such directory.
        """
        if not settings.folder.is_dir():
            raise DataError(f"there is no directory {settings.folder}", hint="--adapter-dir holds a folder per adapter")
        self.settings = settings
        self._read, self._say = read, say
        self._lock, self._reading = threading.Lock(), threading.Lock()
        self._offered: dict[str, str] = {}
        """Names, each with the key of what is in memory, or nothing."""
        self._loaded: dict[str, LoadedAdapter] = {}
        """By key, the last used one last."""
        self._held: Counter[str] = Counter()
        self._gone: list[str] = []
        self.on_engine: Callable[[str], None] = lambda key: None
        """Called on the engine's thread when an adapter has gone."""
        for name in self.found():
            self._offered[name] = ""

    def found(self) -> list[str]:
        """Names of the adapters that are in the directory now."""
        folders = sorted(path for path in self.settings.folder.iterdir() if path.is_dir())
        return [path.name for path in folders if NAME.fullmatch(path.name) and adapter_in(path) is not None]

    @property
    def names(self) -> list[str]:
        """Of the adapters that are offered, sorted."""
        with self._lock:
            return sorted(self._offered)

    @property
    def num_bytes(self) -> int:
        """Of the adapters in memory."""
        with self._lock:
            return self._num_bytes()

    def folder_of(self, name: str) -> Path:
        """Where an adapter lies.

        Raises:
            UnknownNameError: the directory has none of this name.
        """
        path = adapter_in(self.settings.folder / name) if NAME.fullmatch(name) else None
        if path is None:
            raise UnknownNameError("adapter", name, self.found())
        return path

    def get(self, name: str) -> LoadedAdapter:
        """An offered adapter, read where it is not in memory.

        Raises:
            UnknownNameError: it is not offered.
            NoRoomError: those in use leave no room.
            MambaSlmError: it cannot be read.
        """
        with self._lock:
            found = self._touched(name)
        if found is not None:
            return found
        with self._reading:  # one at a time: who asks for the same one finds it then
            with self._lock:
                found = self._touched(name)
            return found or self._put(name, self._read(name, self.folder_of(name)))

    def load(self, name: str, *, again: bool = False) -> LoadedAdapter:
        """Offer an adapter and read it now.

        Args:
            again: read it anew where it is offered already; running requests go on with what they began with.

        Raises:
            AdapterExistsError: it is in memory, and not `again`. Else as `get`.
        """
        with self._reading:
            with self._lock:
                if self._offered.get(name) and not again:
                    raise AdapterExistsError(
                        f"the adapter {name!r} is loaded already", hint='{"load_inplace": true} reads it anew'
                    )
            return self._put(name, self._read(name, self.folder_of(name)))

    def unload(self, name: str) -> int:
        """Offer it no more. Requests that run with it go on; how many there are.

        Raises:
            UnknownNameError: it is not offered.
        """
        with self._lock:
            if name not in self._offered:
                raise UnknownNameError("adapter", name, self._offered)
            key = self._offered.pop(name)
            running = self._held[key] if key else 0
            self._drop_unneeded()
        self._say(f"adapter {name}: unloaded" + (f", {running} requests go on with it" if running else ""))
        return running

    def hold(self, key: str) -> None:
        """See `Holds`."""
        with self._lock:
            self._tell_engine()
            if not key:
                return
            if key not in self._loaded:
                raise SetupError(f"the adapter {key.partition('@')[0]!r} was just unloaded", hint="send it again")
            self._held[key] += 1

    def release(self, key: str) -> None:
        """See `Holds`."""
        with self._lock:
            if key:
                self._held[key] -= 1
                self._drop_unneeded()
            self._tell_engine()

    def by_key(self, key: str) -> LoadedAdapter:
        """One that a running request holds."""
        with self._lock:  # who moves it to the end takes it out for a moment
            return self._loaded[key]

    def _touched(self, name: str) -> LoadedAdapter | None:
        """What is in memory of an offered adapter, now the last used one."""
        if name not in self._offered:
            raise UnknownNameError("adapter", name, self._offered)
        key = self._offered[name]
        if key not in self._loaded:
            return None
        self._loaded[key] = adapter = self._loaded.pop(key)
        return adapter

    def _put(self, name: str, adapter: LoadedAdapter) -> LoadedAdapter:
        """Take what was read into memory, and let others go."""
        size, most = adapter.num_bytes, self.settings.max_bytes
        with self._lock:
            while self._num_bytes() + size > most and adapter.key not in self._loaded:
                idle = next((key for key in self._loaded if not self._held[key]), None)
                if idle is None:
                    in_use = format_bytes(self._num_bytes())
                    raise NoRoomError(
                        f"the adapter {name!r} takes {format_bytes(size)}, and of {format_bytes(most)} for adapters "
                        f"{in_use} are in use",
                        hint="try again later, or give more: --adapter-bytes",
                    )
                self._drop(idle)
            self._loaded.pop(adapter.key, None)
            self._loaded[adapter.key], self._offered[name] = adapter, adapter.key
            self._drop_unneeded()
        self._say(f"adapter {name}: {len(adapter.changes)} matrices, {format_bytes(size)}")
        return adapter

    def _num_bytes(self) -> int:
        return sum(adapter.num_bytes for adapter in self._loaded.values())

    def _drop_unneeded(self) -> None:
        """Let go what is neither offered nor in use."""
        offered = set(self._offered.values())
        for key in [key for key in self._loaded if key not in offered and not self._held[key]]:
            self._drop(key)

    def _drop(self, key: str) -> None:
        adapter = self._loaded.pop(key)
        del self._held[key]
        if self._offered.get(adapter.name) == key:
            self._offered[adapter.name] = ""
        self._gone.append(key)

    def _tell_engine(self) -> None:
        """On the engine's thread: what has gone since."""
        while self._gone:
            self.on_engine(self._gone.pop())


def adapter_in(path: Path) -> Path | None:
    """The folder of the adapter that a folder or a run directory holds; None: none."""
    return next((folder for folder in (path, path / RUN_FOLDER) if is_adapter_folder(folder)), None)
