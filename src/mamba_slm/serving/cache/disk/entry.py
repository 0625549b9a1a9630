"""One state as a file: safetensors whose header holds a code that only its owner can make.

The code is HMAC-SHA256 of the whole file, written where 64 zeros stood, under the key of the namespace and with the
name of the entry: an entry that was changed, cut short, renamed or moved to another namespace does not have it. Tokens
and salts are not in the file; the name says, to those who know them, which they are.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from mamba_slm.core.errors import CheckpointError

ENTRY_FORMAT_VERSION = 1
NO_CODE = "0" * 64
CODE = re.compile(r"[0-9a-f]{64}")
LENGTH_BYTES = 8
"""Of the header's length, which comes first."""


def packed(tensors: Mapping[str, Tensor], *, key: bytes, name: str) -> bytes:
    """The bytes of an entry. Tensors lie on the CPU, contiguous."""
    facts = {"format_version": str(ENTRY_FORMAT_VERSION), "code": NO_CODE}
    data = bytearray(save(dict(tensors), metadata=facts))
    at = data.index(NO_CODE.encode(), LENGTH_BYTES)
    data[at : at + len(NO_CODE)] = code_of(data, key=key, name=name).encode()
    return bytes(data)


def unpacked(data: bytes, *, key: bytes, name: str) -> dict[str, Tensor]:
    """The tensors of an entry.

    Raises:
        CheckpointError: it was not written for this name and key, or has changed since.
    """
    length = int.from_bytes(data[:LENGTH_BYTES], "little")
    try:
        facts = json.loads(data[LENGTH_BYTES : LENGTH_BYTES + length])["__metadata__"]
        version, code = int(facts["format_version"]), str(facts["code"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise CheckpointError("it is not a state of this program") from error
    if version != ENTRY_FORMAT_VERSION:
        raise CheckpointError(f"it has format version {version}, this program reads {ENTRY_FORMAT_VERSION}")
    if not CODE.fullmatch(code):
        raise CheckpointError("its code is none")
    at = data.find(code.encode(), LENGTH_BYTES, LENGTH_BYTES + length)
    plain = data[:at] + NO_CODE.encode() + data[at + len(NO_CODE) :]
    if not hmac.compare_digest(code_of(plain, key=key, name=name), code):
        raise CheckpointError("its bytes are not those that were written for it")
    try:
        return load(data)
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"it cannot be read: {error}") from error


def code_of(data: bytes | bytearray, *, key: bytes, name: str) -> str:
    """64 hexadecimal digits."""
    digest = hmac.new(key, f"{name}\n".encode(), hashlib.sha256)
    digest.update(data)
    return digest.hexdigest()
