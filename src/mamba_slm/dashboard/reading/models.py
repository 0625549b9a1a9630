"""Which models lie below some folders, in which format, and what each is made of. Reads small files only."""

from __future__ import annotations

import functools
import json
import os
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import ConfigError, DataError, MambaSlmError
from mamba_slm.core.files import folder_bytes
from mamba_slm.dashboard.reading.facts import version_of
from mamba_slm.dashboard.reading.gguf import FILE_TYPES, config_of_gguf, read_gguf
from mamba_slm.dashboard.reading.plain import open_plain
from mamba_slm.dashboard.reading.sensible import require_layers, require_pattern, sensible
from mamba_slm.model.config import MODEL_FORMAT_VERSION, ModelConfig
from mamba_slm.model.granite_import import model_config_from_granite
from mamba_slm.model.onnx_contract import CONTRACT_FILE, read_onnx_contract
from mamba_slm.model.quantization import QUANTIZATION_KEY, Quantization
from mamba_slm.runs.layout import RunDirectory, is_run

CONFIG, WEIGHTS, PIECES = "config.json", "model.safetensors", "shards.json"
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
RUN, CHECKPOINT, MODEL, QUANTIZED, HF, ONNX, GGUF, LORA = (
    "run", "checkpoint", "model", "quantized", "Hugging Face", "ONNX", "GGUF", "adapter",
)  # fmt: skip
OURS = (RUN, CHECKPOINT, MODEL, QUANTIZED)
"""Kinds that every command takes as MODEL."""
DEEPEST = 4
MOST_LOOKED_AT = 4000
MOST_CONFIG_BYTES = 4 << 20
IGNORED = frozenset({"node_modules", "site-packages", "__pycache__", "checkpoints"})


@dataclass(frozen=True, kw_only=True)
class Model:
    """Something that holds a model."""

    path: Path
    """A folder, or a .gguf file."""
    kind: str
    folder: Path
    """Where the weights are: of a run its finished model, else its newest checkpoint."""
    config: ModelConfig | None = None
    """None of an adapter, or where `problem` says why."""
    stored: str = ""
    """How matrices are stored, in words; empty where the file's own types say it."""
    problem: str | None = None
    quantization: Quantization | None = None
    is_finished: bool = True
    """False of a run that has checkpoints and no finished model."""


def model_at(path: Path) -> Model | None:
    """What is at a path; None where there is no model, also of a run that has saved nothing yet."""
    if path.is_file():
        return gguf_at(path) if path.suffix.lower() == ".gguf" else None
    if (path / CONTRACT_FILE).is_file():
        return onnx_at(path)
    if holds_weights(path):
        return weights_at(path)
    if is_run(path):
        return run_at(path)
    if all((path / name).is_file() for name in ADAPTER):
        return Model(path=path, kind=LORA, folder=path, stored=adapter_in_words(path))
    return None


def holds_weights(path: Path) -> bool:
    """Whether a folder has weights and a config, of ours or of Hugging Face."""
    if not (path / CONFIG).is_file():
        return False
    names = (WEIGHTS, PIECES, "model.safetensors.index.json")
    return any((path / name).is_file() for name in names)


def run_at(path: Path) -> Model | None:
    """The model of a run: the finished one, its newest checkpoint, or its adapter."""
    run = RunDirectory(path)
    for folder in (path / "model", *reversed(run.checkpoints())):
        if holds_weights(folder):
            found = weights_at(folder)
            return Model(**{**vars(found), "path": path, "kind": RUN, "is_finished": folder.name == "model"})
    if all((path / "adapter" / name).is_file() for name in ADAPTER):
        folder = path / "adapter"
        return Model(path=path, kind=LORA, folder=folder, stored=adapter_in_words(folder))
    return None


def weights_at(path: Path) -> Model:
    """A folder with weights: of ours, quantized or not, a checkpoint, or of Hugging Face."""
    kind, config, quantization, problem = read_config(path / CONFIG, version_of(path / CONFIG))
    if kind == MODEL and path.parent.name == "checkpoints" and path.name.startswith("step-"):
        kind = CHECKPOINT
    stored = str(quantization) if quantization else ""
    return Model(
        path=path, kind=kind, folder=path, config=config, stored=stored, problem=problem, quantization=quantization
    )


@functools.lru_cache(maxsize=512)
def read_config(path: Path, version: str) -> tuple[str, ModelConfig | None, Quantization | None, str | None]:
    """Kind, model, quantization, and what is wrong with a config.json; read once for each version of it."""
    kind = HF
    try:
        values = json_object(path)
        if "format_version" not in values or not isinstance(values.get("model"), dict):
            require_layers(values, "num_hidden_layers")
            return HF, sensible(model_config_from_granite(values)), None, None
        kind = QUANTIZED if values.get(QUANTIZATION_KEY) is not None else MODEL
        if values["format_version"] > MODEL_FORMAT_VERSION:
            raise ConfigError(f"format version {values['format_version']} is newer than this program")
        require_pattern(values["model"].get("pattern"))
        config = sensible(ModelConfig(**values["model"]))
        stored = values.get(QUANTIZATION_KEY)
        return kind, config, None if stored is None else Quantization.from_json(stored), None
    except MambaSlmError as error:
        return kind, None, None, error.message
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
        return kind, None, None, f"{CONFIG} is not a config of ours: {error}"[:500]


def onnx_at(path: Path) -> Model:
    """A folder for ONNX Runtime."""
    try:
        stored = json_object(path / CONTRACT_FILE).get("config")
        require_pattern(stored.get("pattern") if isinstance(stored, dict) else None)
        contract = read_onnx_contract(path)
        sensible(contract.config)
    except MambaSlmError as error:
        return Model(path=path, kind=ONNX, folder=path, problem=error.message[:500])
    blocks = f", blocks of {contract.block_size}" if contract.block_size else ""
    said = f"{contract.weights}{blocks}; {' and '.join(contract.files)}"
    return Model(path=path, kind=ONNX, folder=path, config=contract.config, stored=said)


def gguf_at(path: Path) -> Model:
    """A file for llama.cpp."""
    config, stored, problem = read_gguf_config(path, version_of(path))
    return Model(path=path, kind=GGUF, folder=path, config=config, stored=stored, problem=problem)


@functools.lru_cache(maxsize=256)
def read_gguf_config(path: Path, version: str) -> tuple[ModelConfig | None, str, str | None]:
    """Model, type of the matrices, and what is wrong."""
    stored = ""
    try:
        metadata = read_gguf(path)
        kind = metadata.get("general.file_type")
        stored = FILE_TYPES.get(kind, "a mixture") if isinstance(kind, int) else "a mixture"
        return sensible(config_of_gguf(metadata)), stored, None
    except MambaSlmError as error:
        return None, stored, error.message


def adapter_in_words(folder: Path) -> str:
    """Rank and targets of an adapter."""
    try:
        values = json_object(folder / ADAPTER[0])
    except MambaSlmError as error:
        return error.message
    targets = values.get("target_modules")
    count = f"{len(targets)} kinds of matrices" if isinstance(targets, list) and len(targets) > 1 else words_of(targets)
    kind = {"LORA": "LoRA"}.get(str(values.get("peft_type")), str(values.get("peft_type"))[:20])
    return f"{kind}, rank {str(values.get('r'))[:20]}, {count}"


def words_of(targets: object) -> str:
    """Targets that are no long list."""
    return ", ".join(map(str, targets))[:80] if isinstance(targets, list) else str(targets or "")[:80]


def json_object(path: Path) -> dict[str, Any]:
    """A JSON object in a file of sensible length.

    Raises:
        DataError: it is none.
    """
    try:
        with open_plain(path, follows=True) as file:
            value = json.loads(file.read(MOST_CONFIG_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path.name} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path.name} holds no object")
    return value


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What a search found."""

    models: tuple[Model, ...]
    entries: int
    """How many files and folders were looked at."""
    is_whole: bool
    """False when there were more than `MOST_LOOKED_AT`."""


def models_below(roots: Iterable[Path], runs: Iterable[RunDirectory] = ()) -> Looked:
    """The models in some folders and a few levels below; links and hidden folders are passed over, runs are given."""
    found: dict[Path, Model] = {}
    for run in runs:
        if (model := model_at(run.path)) is not None:
            found[run.path.resolve()] = model
    known = {run.path.resolve() for run in runs}
    waiting = deque((root.resolve(), 0) for root in roots)
    seen, entries = set(), 0
    while waiting:
        folder, depth = waiting.popleft()
        if folder in seen or folder in known:
            continue
        seen.add(folder)
        for entry in listed(folder):
            entries += 1
            if entries > MOST_LOOKED_AT:
                return Looked(models=tuple(found.values()), entries=entries - 1, is_whole=False)
            path = folder / entry.name
            if path in known or path in found:
                continue
            is_folder = entry.is_dir(follow_symlinks=False)
            if is_folder or (entry.name.endswith(".gguf") and entry.is_file(follow_symlinks=False)):
                model = model_at(path)
                if model is not None:
                    found[path] = model
                elif is_folder and depth + 1 < DEEPEST and not is_run(path):
                    waiting.append((path, depth + 1))
    return Looked(models=tuple(found.values()), entries=entries, is_whole=True)


def listed(folder: Path) -> list[os.DirEntry[str]]:
    """What may be looked at in a folder, by name."""
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".") and entry.name not in IGNORED]
    except OSError:
        return []
    return sorted(found, key=lambda entry: entry.name)


def stored_bytes(model: Model) -> int:
    """Of the file, or of the folder that holds the weights."""
    return model.path.stat().st_size if model.path.is_file() else folder_bytes(model.folder)


def trained_for(model: Model) -> Mapping[str, Any] | None:
    """What config.json says of formats that the model was trained for."""
    try:
        stored = json_object(model.folder / CONFIG).get("trained_for")
    except MambaSlmError:
        return None
    return stored if isinstance(stored, dict) else None
