"""What a stored state belongs to: another model, precision, runtime or tokenizer would read nonsense from it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mamba_slm.core.compiler import cache_folder
from mamba_slm.core.errors import DiskFullError, UsageError
from mamba_slm.core.files import sha256_of_file, write_text_atomic
from mamba_slm.generation.runtime import Runtime, TorchRuntime
from mamba_slm.model.packed import PackedModel
from mamba_slm.model.stack import LanguageModel
from mamba_slm.ops.lowbit.packed import PackedWeight
from mamba_slm.text.tokenizer import Tokenizer

MODEL_FILES = ("config.json", "model*.safetensors", "mamba_slm_onnx.json", "**/*.onnx", "**/*.onnx.data")
"""Patterns of the files in a model folder that decide what a model computes."""


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """Four things that must be equal for a state to mean the same."""

    weights: str
    """SHA-256 of the config and of all weights."""

    precision: str
    """How weights and caches are held: "float32", "bfloat16", "9 matrices of 8 bits, blocks of 32 and bfloat16"."""

    backend: str
    """What computes, and where: "CompiledRuntime on cpu"."""

    tokenizer: str
    """`Tokenizer.fingerprint`; empty for states of token ids that no tokenizer made."""

    def differences(self, other: Fingerprint) -> list[str]:
        """Names of the parts that are not equal."""
        theirs = asdict(other)
        return [name for name, value in asdict(self).items() if value != theirs[name]]

    @property
    def digest(self) -> str:
        """One hash of all parts, for names of files."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]


def fingerprint_of(
    runtime: Runtime[Any], *, tokenizer: Tokenizer | None = None, folder: Path | None = None
) -> Fingerprint:
    """The fingerprint of a model as it runs.

    Args:
        folder: that the model was loaded from, whose files are hashed once and remembered by name, size and time. None
            hashes the weights in memory: half a second per gigabyte.

    Raises:
        UsageError: a model whose weights are not PyTorch's, without its folder.
    """
    model = runtime.model if isinstance(runtime, TorchRuntime) else None
    if folder is None and model is None:
        raise UsageError("the weights of this runtime cannot be read", hint="give the folder of the model")
    stored = digest_of_model(model) if folder is None and model is not None else digest_of_folder(folder or Path())
    weights = f"{runtime.config!r} {stored}"  # settings may change the config of the folder, such as its context
    return Fingerprint(
        weights=hashlib.sha256(weights.encode()).hexdigest(),
        precision="as exported" if model is None else precision_of(model),
        backend=f"{type(runtime).__name__} on {runtime.device.type}",
        tokenizer="" if tokenizer is None else tokenizer.fingerprint,
    )


def precision_of(model: LanguageModel) -> str:
    """Kinds of packed matrices and how many there are of each, and the dtype of the rest."""
    dtype = str(model.embedding.weight.dtype).removeprefix("torch.")
    if not isinstance(model, PackedModel):
        return dtype
    kinds = [kind_of(packed) for packed in model.packed_weights()]
    return " and ".join([*(f"{kinds.count(each)} matrices of {each}" for each in sorted(set(kinds))), dtype])


def kind_of(packed: PackedWeight) -> str:
    """What tells matrices apart that were rounded in different ways from the same weights."""
    words = [f"{packed.bits} bits", f"blocks of {packed.block_size}"]
    if packed.table is not None:
        words.append(f"values {sum(packed.table[1:4].tolist()):.4f}")  # differs between nf4 and fp4
    words += ["zero points"] * (packed.zero_points is not None) + ["rounded inputs"] * (packed.activations == "int8")
    return ", ".join(words)


def digest_of_model(model: LanguageModel) -> str:
    """SHA-256 of the weights in memory."""
    digest = hashlib.sha256()
    for name, tensor in all_weights(model):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(raw_bytes(tensor))
    return digest.hexdigest()


def all_weights(model: LanguageModel) -> Iterator[tuple[str, Tensor]]:
    """Every tensor that holds values, with a name."""
    yield from sorted(model.state_dict().items())
    if isinstance(model, PackedModel):
        for number, packed in enumerate(model.packed_weights()):
            yield from ((f"part {part} of {number}", tensor) for part, tensor in enumerate(packed.tensors))


def raw_bytes(tensor: Tensor) -> memoryview:
    """The values of a tensor as bytes; those of a CPU are not copied."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def digest_of_folder(folder: Path) -> str:
    """SHA-256 over the model files of a folder."""
    files = sorted({file for pattern in MODEL_FILES for file in folder.glob(pattern)})
    if not files:
        raise UsageError(f"{folder} holds no model files", hint="give the folder of a model")
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(folder).as_posix()} {remembered_sha256(file)}\n".encode())
    return digest.hexdigest()


def remembered_sha256(file: Path) -> str:
    """SHA-256 of a file, computed again only when its place, size or times changed."""
    found = file.stat()
    identity = (str(file.resolve()), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    kept = cache_folder() / "sha256" / hashlib.sha256(repr(identity).encode()).hexdigest()[:32]
    try:
        return kept.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        digest = sha256_of_file(file)
    with contextlib.suppress(OSError, DiskFullError):  # the next process computes it again
        write_text_atomic(kept, digest)
    return digest
