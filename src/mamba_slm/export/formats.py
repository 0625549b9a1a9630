"""Which format a path holds, and what opens it. No torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import DataError

OURS, HUGGING_FACE, GGUF, ONNX = "mamba-slm", "Hugging Face", "GGUF", "ONNX"
RUNNERS = {
    OURS: "mamba_slm.export.trace:open_ours",
    HUGGING_FACE: "mamba_slm.export.hf.runner:open_hf",
    GGUF: "mamba_slm.export.gguf.runner:open_gguf",
    ONNX: "mamba_slm.export.onnx.runner:open_onnx",
}
"""Format -> "module:factory"; a factory takes a Path and returns a `Runner`."""
CONFIG_FILE = "config.json"
WEIGHTS_PATTERN = "model*.safetensors"


def format_of(path: Path) -> str | None:
    """The format of what is at `path`, a key of `RUNNERS`, or None.

    A folder with safetensors is ours or Hugging Face's by its config; ONNX files beside them do not count.
    """
    if path.is_file():
        return {".gguf": GGUF, ".onnx": ONNX}.get(path.suffix.lower())
    config = config_of(path)
    if config is not None and any(path.glob(WEIGHTS_PATTERN)):
        return OURS if "format_version" in config and "model" in config else HUGGING_FACE
    if any(path.glob("*.onnx")) or any(path.glob("onnx/*.onnx")):
        return ONNX
    if config is not None and (any(path.glob("*.safetensors")) or any(path.glob("*.bin"))):
        return HUGGING_FACE
    if any(path.glob(f"model/{CONFIG_FILE}")) or any(path.glob(f"checkpoints/step-*/{CONFIG_FILE}")):
        return OURS
    return None


def config_of(folder: Path) -> dict[str, Any] | None:
    """The config.json of a folder; None where there is none.

    Raises:
        DataError: it is not JSON.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(
            f"{path} is not JSON: {error}", hint="the file is cut short or damaged; copy it again"
        ) from error
    return values if isinstance(values, dict) else None


def resolve(path: str | Path) -> Path:
    """The path itself, or the folder of a hub id in the local cache of huggingface_hub. The network is not used.

    Raises:
        DataError: neither exists.
    """
    if Path(path).exists():
        return Path(path)
    cached = cached_snapshot(str(path))
    if cached is None:
        raise DataError(
            f"{path} does not exist, neither as a path nor as a model in the cache of Hugging Face",
            hint="download it first, for instance with: hf download OWNER/NAME",
        )
    return cached


def cached_snapshot(name: str) -> Path | None:
    """The newest complete snapshot of a hub id in the local cache, or None."""
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return None
