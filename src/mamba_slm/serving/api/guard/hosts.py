"""Host headers, checked: a page on the internet cannot make a browser talk to this server under the page's own name.

DNS rebinding gives a name of the attacker this machine's address, after which the page's requests come from the same
origin, for a browser. They still carry the attacker's name in Host. An IP address in Host cannot be rebound.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

from mamba_slm.serving.api.guard.replies import App, Receive, Scope, Send, refuse


class HostCheck:
    """Refuses requests that were meant for another host."""

    def __init__(self, app: App, *, allowed: Sequence[str] = ()):
        """
        Args:
            allowed: names besides loopback ones, IP addresses and this machine's own; `*` allows all, `*.name` all
                below a name.
        """
        self.app = app
        self.allowed = tuple(name.lower().rstrip(".") for name in (*allowed, "localhost", socket.gethostname()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        named = [value.decode("latin-1") for key, value in scope["headers"] if key == b"host"]
        if len(named) > 1 or (not named and scope.get("http_version") == "1.1"):
            return await refuse(send, 400, f"a request needs one Host header, this one has {len(named)}")
        if named and not is_allowed(named[0], self.allowed):
            return await refuse(
                send,
                403,
                f"this server does not answer to the host {named[0][:100]!r} "
                "(whoever runs it can allow the name: --allowed-hosts NAME)",
                code="host_not_allowed",
            )
        await self.app(scope, receive, send)


def is_allowed(host: str, allowed: Sequence[str]) -> bool:
    """Whether a Host header is an address or one of some names, whatever its port.

    >>> allowed = ["localhost", "*.lab"]
    >>> [is_allowed(host, allowed) for host in ("localhost:8000", "[::1]:80", "a.lab", "lab", "evil.com")]
    [True, True, True, False, False]
    """
    if "*" in allowed:
        return True
    name, bracket, _ = host.partition("]")
    name = name[1:] if bracket and name.startswith("[") else host.partition(":")[0]
    name = name.lower().rstrip(".")
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return any(name == one or (one.startswith("*.") and name.endswith(one[1:])) for one in allowed)
    return True
