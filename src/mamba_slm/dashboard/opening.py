"""A browser, shown the dashboard: the token stands in no argument of its process, which everybody here can read.

The browser is given a file that only its owner can read, and that leads on to the address with the token.
"""

from __future__ import annotations

import contextlib
import html
import webbrowser
from collections.abc import Iterator
from pathlib import Path

from mamba_slm.core.files import write_bytes_atomic

FILE = Path(".dashboard") / "open.html"
"""Below the first home, while the dashboard runs."""


@contextlib.contextmanager
def browser_at(address: str, token: str, *, home: Path) -> Iterator[None]:
    """Open a browser, where there is one; the file is removed on leaving.

    Who is killed leaves the file, which tells nobody more than the token that lies beside it. Where the file cannot be
    written the browser gets the plain address, and asks for the token unless it has the cookie.
    """
    file = (home / FILE).resolve()
    shown = address
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_bytes_atomic(file, leading_to(f"{address}?token={token}").encode(), mode=0o600)
        shown = file.as_uri()
    try:
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(shown)
        yield
    finally:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)


def leading_to(address: str) -> str:
    """A page that leads on at once.

    >>> leading_to('http://localhost:8888/?token="x"').count("&quot;x&quot;")
    2
    """
    shown = html.escape(address, quote=True)
    head = '<meta charset="utf-8"><meta name="referrer" content="no-referrer"><title>mamba-slm</title>'
    return (
        f'<!doctype html><html lang="en"><head>{head}<meta http-equiv="refresh" content="0; url={shown}"></head>'
        f'<body><a href="{shown}">mamba-slm</a></body></html>\n'
    )
