"""What the guard of a server allows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mamba_slm.core.errors import ConfigError

LogForm = Literal["none", "text", "json"]


@dataclass(frozen=True, kw_only=True)
class GuardSettings:
    """Limits of one server; the defaults are for one on loopback."""

    allowed_hosts: tuple[str, ...] = ()
    """Names that a request's Host header may have besides loopback ones and IP addresses; `*` allows all."""

    api_keys: Path | None = None
    """File of hashed keys; with it every request needs one."""

    requests_per_minute: int | None = None
    """Of each key that has no limit of its own; of each client address where there are no keys."""

    tokens_per_minute: int | None = None
    """Tokens of prompts and answers together, counted alike."""

    max_body_bytes: int = 4 * 2**20
    """Of one request; larger ones are refused with 413. Parsing JSON holds up the streams of others: 4 MiB for about a
    tenth of a second."""

    max_buffered_bytes: int = 256 * 2**20
    """Of all bodies that are being received or worked on together; beyond it requests are refused with 503."""

    max_requests: int = 2048
    """Requests in progress, those that wait for the engine included; beyond it requests are refused with 503."""

    max_connections: int = 4096
    """Open sockets; a new one closes the one that has been idle longest, and is refused where none is."""

    head_seconds: float = 10.0
    """How long a client may take to send the head of a request, from its first byte on."""

    body_seconds: float = 60.0
    """How long a client may take to send a body."""

    send_seconds: float = 60.0
    """How long a client may take no byte of an answer."""

    keep_alive_seconds: float = 75.0
    """How long a connection may be idle; longer than the 60 s of nginx, so that nginx closes it and not we."""

    request_seconds: float = 3600.0
    """How long a request may take, from the end of its body on."""

    cors: tuple[str, ...] = ()
    """Origins whose pages may call the API from a browser; `*` allows all."""

    log: LogForm = "none"
    """A line for every request on stderr; none of them holds text of a prompt or an answer."""

    log_prompts: bool = False
    """Log the bodies of requests too."""

    def __post_init__(self) -> None:
        for name in ("requests_per_minute", "tokens_per_minute"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be 1 or more, got {value}", hint="leave it out for no limit")
        for name in ("max_body_bytes", "max_buffered_bytes", "max_requests", "max_connections"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be 1 or more, got {getattr(self, name)}")
        for name in ("head_seconds", "body_seconds", "send_seconds", "keep_alive_seconds", "request_seconds"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be more than 0, got {getattr(self, name)}")
