"""The beginning of a GGUF file: what its metadata say of the model, read without its weights."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.dashboard.reading.plain import open_plain
from mamba_slm.dashboard.reading.sensible import require_layers
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.pattern import ATTENTION, FEED_FORWARD, MAMBA

FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 14: "Q4_K", 15: "Q4_K_M", 18: "Q6_K", 32: "BF16",
}  # fmt: skip
"""`general.file_type` -> the name that `mamba-slm export gguf --type` has for it."""
FORMATS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
TEXT, LIST = 8, 9
MOST_KEYS, MOST_ITEMS, MOST_CHARACTERS = 500, 4096, 65_536
MOST_BYTES = 16 << 20
"""Of the metadata before those of the tokenizer."""
ARCHITECTURE = "granitehybrid"
TENSORS_OF = {MAMBA: 13, ATTENTION: 9}
"""Tensors of a layer with its feed-forward; an embedding and a norm come on top, and a head that is not tied."""


def read_gguf(path: Path) -> dict[str, Any]:
    """The metadata before those of the tokenizer, and `tensors`, their number.

    Raises:
        DataError: not a GGUF file, or cut short.
    """
    try:
        with open_plain(path, follows=True) as file:
            if file.read(4) != b"GGUF":
                raise DataError(f"{path} is not a GGUF file")
            version, tensors, keys = struct.unpack("<IQQ", exactly(file, 20))
            if version not in (2, 3) or keys > MOST_KEYS:
                raise DataError(f"{path} is a GGUF file of another kind: version {version}, {keys} keys")
            found: dict[str, Any] = {"tensors": tensors}
            for _ in range(keys):
                key = read_text(file)
                if key.startswith("tokenizer."):
                    break
                (kind,) = struct.unpack("<I", exactly(file, 4))
                found[key] = read_value(file, kind)
            return found
    except (OSError, struct.error, ValueError, KeyError) as error:
        raise DataError(f"{path} cannot be read as GGUF: {error!r}") from error


def exactly(file: BinaryIO, size: int) -> bytes:
    """So many bytes.

    Raises:
        ValueError: the file ends before.
    """
    data = file.read(size)
    if len(data) != size:
        raise ValueError("the file is cut short")
    if file.tell() > MOST_BYTES:
        raise ValueError("the metadata have no end")
    return data


def read_text(file: BinaryIO) -> str:
    """A text with its length before it."""
    (size,) = struct.unpack("<Q", exactly(file, 8))
    if size > MOST_CHARACTERS:
        raise ValueError(f"a text of {size} bytes")
    return exactly(file, size).decode("utf-8", errors="replace")


def read_value(file: BinaryIO, kind: int) -> Any:
    """A number, a text, or a list of them."""
    if kind == TEXT:
        return read_text(file)
    if kind != LIST:
        return struct.unpack(FORMATS[kind], exactly(file, struct.calcsize(FORMATS[kind])))[0]
    inner, count = struct.unpack("<IQ", exactly(file, 12))
    if count > MOST_ITEMS or inner == LIST:
        raise ValueError(f"a list of {count} values")
    return [read_value(file, inner) for _ in range(count)]


def config_of_gguf(metadata: Mapping[str, Any]) -> ModelConfig:
    """The model of a file that `mamba-slm export gguf` wrote.

    Raises:
        ConfigError: a model of another architecture, or a key is missing.
    """
    name = metadata.get("general.architecture")
    if name != ARCHITECTURE:
        raise ConfigError(f"a model of the architecture {str(name)[:40]!r}, not {ARCHITECTURE}")

    def value(key: str) -> Any:
        if f"{ARCHITECTURE}.{key}" not in metadata:
            raise ConfigError(f"the key {ARCHITECTURE}.{key} is missing")
        return metadata[f"{ARCHITECTURE}.{key}"]

    require_layers(metadata, f"{ARCHITECTURE}.block_count")
    try:
        heads = value("attention.head_count_kv")
        kv_heads = list(heads) if isinstance(heads, list) else [heads] * value("block_count")
        mixers = [ATTENTION if count else MAMBA for count in kv_heads]
        inner, channels = value("ssm.inner_size"), value("embedding_length")
        return ModelConfig(
            pattern="".join(mixer + FEED_FORWARD for mixer in mixers),
            vocab_size=value("vocab_size"),
            hidden_size=channels,
            num_heads=value("attention.head_count"),
            num_kv_heads=max(kv_heads) or 1,
            feed_forward_size=value("expert_shared_feed_forward_length"),
            state_size=value("ssm.state_size"),
            ssm_head_dim=inner // value("ssm.time_step_rank"),
            expand=inner // channels,
            conv_kernel=value("ssm.conv_kernel"),
            num_groups=value("ssm.group_count"),
            max_context_tokens=value("context_length"),
            rope_theta=value("rope.freq_base"),
            position="rope" if metadata.get(f"{ARCHITECTURE}.rope.scaling.finetuned") else "nope",
            tie_embeddings=metadata["tensors"] == 2 + sum(TENSORS_OF[mixer] for mixer in mixers),
        )
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ConfigError(f"the metadata do not fit together: {error}") from error
