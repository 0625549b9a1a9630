"""The token that opens the dashboard: random, kept beside the runs for their owner only, so that open pages survive a
restart. A browser shows it once, in the address, and gets a cookie that is derived from it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from mamba_slm.core.errors import SetupError
from mamba_slm.core.files import write_bytes_atomic

FILE = Path(".dashboard") / "token"


def kept_token(home: Path, *, is_new: bool = False) -> str:
    """The token kept in `home`; made when there is none, it is `is_new`, or somebody else could have read it.

    Raises:
        SetupError: it cannot be written.
    """
    file = home / FILE
    try:
        if not is_new and file.is_file() and is_private(file):
            kept = file.read_text(encoding="ascii").strip()
            if kept:
                return kept
        token = secrets.token_urlsafe(32)
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_bytes_atomic(file, f"{token}\n".encode("ascii"), mode=0o600)
    except (OSError, UnicodeError) as error:
        raise SetupError(
            f"cannot keep the token in {file}: {error}", hint="give one with MAMBA_SLM_DASHBOARD_TOKEN=…"
        ) from error
    return token


def is_private(file: Path) -> bool:
    """Whether the file is ours and nobody else may read it."""
    found = file.stat()
    return found.st_uid == os.getuid() and not found.st_mode & 0o077


def cookie_name(token: str) -> str:
    """Its own for each token: browsers share cookies among all ports of a host."""
    return "mamba_slm_" + hashlib.sha256(b"name " + token.encode()).hexdigest()[:12]


def cookie_value(token: str) -> str:
    """What the cookie holds."""
    return hmac.new(token.encode(), b"mamba-slm dashboard session", hashlib.sha256).hexdigest()


def is_same(given: str, expected: str) -> bool:
    """Comparison whose time does not depend on where the two differ."""
    return hmac.compare_digest(given.encode("utf-8", errors="replace"), expected.encode("utf-8"))
