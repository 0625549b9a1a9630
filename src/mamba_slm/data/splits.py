"""Choose held-out documents by a hash: the same ones on every machine, whatever else is in the corpus."""

from __future__ import annotations

import hashlib

from mamba_slm.core.errors import ConfigError


def is_held_out(document_id: str, share: float, *, salt: str = "held-out") -> bool:
    """Whether this document belongs to the held-out part.

    A document that is held out at one share is held out at every larger one.

    Args:
        document_id: `Document.id`.
        share: expected share of documents held out, in [0, 1].
        salt: another value gives another, independent choice.

    Raises:
        ConfigError: `share` is outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"the held-out share must lie in [0, 1], got {share}")
    digest = hashlib.sha256(f"{salt}\0{document_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def is_text_held_out(text: bytes, share: float, *, salt: str = "held-out") -> bool:
    """Whether a document belongs to the held-out part, by its text in UTF-8 alone: copies are never on both sides.

    Raises:
        ConfigError: `share` is outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"the held-out share must lie in [0, 1], got {share}")
    digest = hashlib.blake2b(text, digest_size=8, key=salt.encode()).digest()
    return int.from_bytes(digest, "big") < share * 2**64
