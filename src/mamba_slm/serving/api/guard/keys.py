"""API keys in a file: who may ask, hashed, read again when the file changes.

A key is 256 random bits behind the number of its entry. One round of SHA-256 is enough to store it: nobody can try
2^256 keys, however fast the hash, while a slow hash, made for passwords, would let anybody keep the server busy.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from mamba_slm.core.errors import DataError, UnknownNameError, UsageError
from mamba_slm.core.files import write_bytes_atomic

FORMAT_VERSION = 1
PREFIX = "sk-mamba-"
Role = Literal["user", "admin", "metrics"]
ROLES: tuple[Role, ...] = ("user", "admin", "metrics")
NO_KEY = "0" * 64


@dataclass(frozen=True, kw_only=True)
class KeyRecord:
    """One key, as it is stored."""

    name: str
    """In logs, and as the tenant whose requests get equal turns."""
    id: str
    """Eight hexadecimal digits; part of the key, to find it by."""
    sha256: str
    """Of the whole key, hexadecimal."""
    role: Role = "user"
    """`user` asks the model; `admin` loads and unloads adapters too; `metrics` reads /metrics alone."""
    created: int = 0
    """Seconds since 1970."""
    requests_per_minute: int | None = None
    """None: the server's default."""
    tokens_per_minute: int | None = None

    def __post_init__(self) -> None:
        limits = (self.requests_per_minute, self.tokens_per_minute)
        if self.role not in ROLES or len(self.sha256) != 64 or not self.name or not is_hexadecimal(self.id, 8):
            raise ValueError(f"no key: name {self.name!r}, id {self.id!r}, role {self.role!r}")
        if any(limit is not None and (not isinstance(limit, int) or limit < 1) for limit in limits):
            raise ValueError(f"limits of the key {self.name!r} must be 1 or more, got {limits}")


def is_hexadecimal(text: str, length: int) -> bool:
    """Whether it is so many lower-case digits."""
    return len(text) == length and set(text) <= set("0123456789abcdef")


def digest(key: str) -> str:
    """What is stored of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def is_exposed(mode: int, *, owner: int, user: int) -> bool:
    """Whether others than the user who runs us may read or change a file of this mode.

    The group may read what belongs to root, where we are not root: so Kubernetes hands a secret to a process.

    >>> [is_exposed(mode, owner=1000, user=1000) for mode in (0o600, 0o400, 0o440, 0o604)]
    [False, False, True, True]
    >>> [is_exposed(mode, owner=0, user=1000) for mode in (0o440, 0o460, 0o444)]
    [False, True, True]
    """
    is_handed_out = owner == 0 and user != 0
    return bool(stat.S_IMODE(mode) & (0o037 if is_handed_out else 0o077))


def read_keys(path: Path) -> dict[str, KeyRecord]:
    """All keys by their ids.

    Raises:
        DataError: no such file, not a file of keys, or one that others may read or change.
    """
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            found = json.loads(file.read())
        if is_exposed(about.st_mode, owner=about.st_uid, user=os.geteuid()):
            mode = stat.S_IMODE(about.st_mode)
            raise DataError(f"others may read or change {path} (mode {mode:04o})", hint=f"run: chmod 600 {path}")
        if found["format_version"] != FORMAT_VERSION:
            raise DataError(f"{path} has format {found['format_version']!r}, this version reads {FORMAT_VERSION}")
        known = {field.name for field in fields(KeyRecord)}
        unknown = {name for entry in found["keys"] for name in entry} - known
        if unknown:
            raise DataError(f"{path} has fields that are not known: {', '.join(sorted(unknown))}")
        records = [KeyRecord(**entry) for entry in found["keys"]]
    except FileNotFoundError as error:
        raise DataError(f"there is no {path}", hint=f"make a key: mamba-slm api-keys add NAME --file {path}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no file of keys: {error}", hint="make one: mamba-slm api-keys add NAME") from error
    return {record.id: record for record in records}


def write_keys(path: Path, records: dict[str, KeyRecord]) -> None:
    """Replace the file; nobody but its owner can read it at any moment."""
    stored: dict[str, Any] = {"format_version": FORMAT_VERSION, "keys": [asdict(record) for record in records.values()]}
    write_bytes_atomic(path, (json.dumps(stored, indent=2) + "\n").encode(), mode=0o600)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time changes the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def add_key(
    path: Path,
    name: str,
    *,
    role: Role = "user",
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
) -> str:
    """Make a key, store its hash, and return it; nobody can show it again.

    Raises:
        UsageError: the name is taken or empty.
        DataError: the file is broken.
    """
    if not name.strip() or not name.isprintable() or len(name) > 100:
        raise UsageError(f"{name[:100]!r} is no name for a key", hint="use up to 100 printable characters")
    with locked(path):
        records = read_keys(path) if path.exists() else {}
        if any(record.name == name for record in records.values()):
            raise UsageError(f"{path} has a key {name!r} already", hint=f"remove it: mamba-slm api-keys remove {name}")
        id = next(id for id in iter(lambda: secrets.token_hex(4), None) if id not in records)
        key = f"{PREFIX}{id}-{secrets.token_urlsafe(32)}"
        records[id] = KeyRecord(
            name=name,
            id=id,
            sha256=digest(key),
            role=role,
            created=int(time.time()),
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
        )
        write_keys(path, records)
    return key


def remove_key(path: Path, name: str) -> None:
    """Forget a key; a running server refuses it from its next request on.

    Raises:
        UnknownNameError: there is none of this name.
    """
    with locked(path):
        records = read_keys(path)
        kept = {id: record for id, record in records.items() if record.name != name}
        if len(kept) == len(records):
            raise UnknownNameError("key", name, [record.name for record in records.values()])
        write_keys(path, kept)


class KeyRing:
    """The keys of a running server, read again when their file changes."""

    def __init__(self, path: Path, *, say: Callable[[str], None]):
        """
        Args:
            say: told when a changed file cannot be read, after which the keys from before stay in force.

        Raises:
            DataError: see `read_keys`.
        """
        self._path, self._say = path, say
        self._seen = self._state()
        self._records = read_keys(path)

    def __len__(self) -> int:
        return len(self._records)

    def find(self, key: str) -> KeyRecord | None:
        """The entry of a key, None where there is none. How long it takes does not tell how much of it is right."""
        self._refresh()
        record = self._records.get(key[len(PREFIX) : len(PREFIX) + 8])
        is_right = hmac.compare_digest(digest(key), NO_KEY if record is None else record.sha256)
        return record if is_right else None

    def _state(self) -> tuple[int, int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size, found.st_mode

    def _refresh(self) -> None:
        state = self._state()
        if state == self._seen:
            return
        self._seen = state
        try:
            self._records = read_keys(self._path)
        except DataError as error:
            hint = f" ({error.hint})" if error.hint else ""
            self._say(f"keys unchanged: {error.message}{hint}")
        else:
            self._say(f"keys read again: {len(self._records)} in {self._path}")
