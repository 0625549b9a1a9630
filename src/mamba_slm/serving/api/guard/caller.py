"""On whose behalf a request is answered, known to everything that runs for it."""

from __future__ import annotations

import ipaddress
from collections.abc import MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from mamba_slm.core.errors import MambaSlmError
from mamba_slm.serving.api.guard.limits import Allowance


class NotAllowedError(MambaSlmError):
    """The key may not do this."""


@dataclass
class Caller:
    """One request's sender; counts what the request uses."""

    name: str = ""
    """Of its key; empty where the server has none."""
    is_admin: bool = False
    has_key: bool = False
    address: str = ""
    """Of the client."""
    allowance: Allowance | None = None
    prompt_tokens: int = 0
    new_tokens: int = 0

    def charge(self, *, prompt_tokens: int = 0, new_tokens: int = 0) -> None:
        """Count tokens against the limit of the key, as they are read and made."""
        self.prompt_tokens += prompt_tokens
        self.new_tokens += new_tokens
        if self.allowance is not None:
            self.allowance.spend_tokens(prompt_tokens + new_tokens)


CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)
"""Of the request that this task works for; None outside of requests and in applications without a guard."""


def charge(*, prompt_tokens: int = 0, new_tokens: int = 0) -> None:
    """Count tokens for the request at hand."""
    caller = CALLER.get()
    if caller is not None:
        caller.charge(prompt_tokens=prompt_tokens, new_tokens=new_tokens)


def tenant(otherwise: str = "") -> str:
    """The name of the key of the request at hand, else what is given."""
    caller = CALLER.get()
    return caller.name if caller is not None and caller.name else otherwise


def require_admin(scope: MutableMapping[str, Any]) -> None:
    """Let pass a request with an admin key; where the server has no keys, one from this machine.

    Args:
        scope: of ASGI: `request.scope`.

    Raises:
        NotAllowedError: any other.
    """
    caller = scope.get("state", {}).get("key")
    if isinstance(caller, Caller) and caller.has_key:
        if not caller.is_admin:
            raise NotAllowedError(
                f"the key {caller.name!r} may not do this", hint="use one made by: mamba-slm api-keys add NAME --admin"
            )
        return
    client = scope.get("client")
    if client is None or not is_loopback(client[0]):
        raise NotAllowedError("this needs an admin key, and the server has no keys", hint="start it with --api-keys")


def is_loopback(address: str) -> bool:
    """
    >>> [is_loopback(address) for address in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "10.1.2.3")]
    [True, True, True, False, False]
    """
    if address == "localhost":
        return True
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback
