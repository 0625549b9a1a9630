"""What the dashboard is told when it starts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mamba_slm.core.errors import ConfigError

SHORTEST_TOKEN = 16
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, kw_only=True)
class DashboardConfig:
    """Where the runs lie, and who may look."""

    homes: tuple[Path, ...]
    """Folders of runs; what is started goes into the first."""

    token: str
    """Whoever knows it may see and do everything here."""

    host: str = "127.0.0.1"
    """The address to listen at."""

    port: int = 8888
    """0 takes one that is free."""

    allowed_hosts: tuple[str, ...] = ()
    """Names besides the loopback's and `host` under which browsers reach it, such as that of a proxy."""

    root_path: str = ""
    """Where a proxy shows it, such as `/user/ada/proxy/8888`; begins with a slash and does not end with one."""

    data: tuple[Path, ...] = ()
    """Folders besides the homes and the one it was started in, whose files may be shown."""

    upload_bytes: int = 2 << 30
    """The largest file that a browser may send."""

    is_read_only: bool = False
    """Nothing is started, stopped or written."""

    def __post_init__(self):
        if not self.homes:
            raise ConfigError("the dashboard needs a home of runs", hint="give it: --home runs")
        if len(self.token) < SHORTEST_TOKEN or not re.fullmatch(r"[\w.~-]+", self.token, flags=re.ASCII):
            raise ConfigError(
                f"a token needs {SHORTEST_TOKEN} or more letters, digits, - _ . ~, got {len(self.token)} characters",
                hint="leave out --token: a random one is made and kept",
            )
        if self.root_path and not re.fullmatch(r"(/[\w.~%@-]+)+", self.root_path, flags=re.ASCII):
            raise ConfigError(
                f"--root-path {self.root_path!r} is not the path of a proxy", hint="write it as /user/ada/proxy/8888"
            )

    @property
    def hosts(self) -> frozenset[str]:
        """Host names that requests may carry, in lower case and without a port."""
        own = f"[{self.host}]" if ":" in self.host else self.host
        return frozenset(name.lower() for name in (*LOOPBACK, own, *self.allowed_hosts))
