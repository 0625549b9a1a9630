"""`--offline`: any use of the network beyond this machine becomes an error."""

from __future__ import annotations

import os
import sys
from typing import Any

from mamba_slm.core.errors import SetupError

LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")
installed = False


def forbid_network() -> None:
    """Refuse name look-ups and connections to other machines for the rest of this process and its children.

    Python's audit events see every socket of the interpreter; libraries with their own network code are told by the
    environment variables they honour. Loopback and Unix sockets stay usable. Calling it twice changes nothing.
    """
    global installed
    os.environ.update(MAMBA_SLM_OFFLINE="1", HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
    if not installed:
        sys.addaudithook(refuse_connections)
        installed = True


def refuse_connections(event: str, arguments: tuple[Any, ...]) -> None:
    """The audit hook: raises `SetupError` for a connection or look-up that leaves this machine."""
    if event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        host = str(arguments[1][0])
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = str(arguments[0] or "localhost")
    else:
        return
    if not host.startswith(LOOPBACK):
        raise SetupError(
            f"the network is off (--offline), but something wants to reach {host}", hint="leave out --offline"
        )
