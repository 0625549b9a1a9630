"""Names of states on the disk: they tell nothing to those who do not know the tokens, the salt and the secret."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from mamba_slm.core.errors import DataError

SECRET_FILE = "secret"
SECRET_BYTES = 32
NAME = re.compile(r"[0-9]{1,9}-[0-9a-f]{40}")
"""Count of tokens, and a code of them."""


def secret_of(folder: Path) -> bytes:
    """The secret of a cache, made where there is none; only the owner of the file can read it.

    Raises:
        DataError: others can read or change it, or it is damaged.
    """
    path = folder / SECRET_FILE
    made = secrets.token_bytes(SECRET_BYTES)
    temporary = folder / f".{SECRET_FILE}.{secrets.token_hex(8)}"
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(made)
    try:
        os.link(temporary, path)  # fails where another process was faster
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    found = path.stat()
    if found.st_mode & 0o077 or found.st_uid != os.geteuid():
        raise DataError(f"others can read or change {path}", hint=f"delete {folder}: it is a cache and fills again")
    secret = path.read_bytes()
    if len(secret) != SECRET_BYTES:
        raise DataError(f"{path} is damaged", hint=f"delete {folder}: it is a cache and fills again")
    return secret


def key_of(secret: bytes, namespace: str) -> bytes:
    """The key of a namespace: without the salt nobody has it, not even who has the folder."""
    return hmac.digest(secret, namespace.encode("utf-8", "surrogatepass"), "sha256")


def name_of(key: bytes, tokens: Sequence[int]) -> str:
    """Of the state after these tokens."""
    ((_, name),) = names_of(key, tokens, [len(tokens)])
    return name


def names_of(key: bytes, tokens: Sequence[int], lengths: Iterable[int]) -> Iterator[tuple[int, str]]:
    """Lengths, ascending, with the names of the states after so many of the tokens; longer ones are left out."""
    data = memoryview(np.asarray(tokens, dtype="<i8").tobytes())
    digest, at = hashlib.sha256(), 0
    for length in lengths:
        if length > len(tokens):
            return
        digest.update(data[8 * at : 8 * length])
        at = length
        yield length, f"{length}-{hmac.digest(key, digest.digest(), 'sha256').hex()[:40]}"
