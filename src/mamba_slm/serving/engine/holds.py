"""What an engine says about the adapters that its requests use."""

from __future__ import annotations

from mamba_slm.core.errors import ConfigError


class Holds:
    """Told on the engine's thread which adapters must stay in memory; this one knows none."""

    def hold(self, key: str) -> None:
        """A request that uses an adapter was taken; "" is the base.

        Raises:
            MambaSlmError: the adapter is not there.
        """
        if key:
            raise ConfigError(f"this engine has no adapter {key!r}", hint="serve with --adapter-dir FOLDER")

    def release(self, key: str) -> None:
        """The request is done."""
