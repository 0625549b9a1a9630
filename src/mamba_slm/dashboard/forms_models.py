"""What one can do with a model that is there: quantize, export, compare, merge. Forms to command lines."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from mamba_slm.core.errors import ConfigError
from mamba_slm.dashboard.fields import further, texts_of
from mamba_slm.runs.layout import CHECKPOINT_NAME

NOT_HERE = ("-h", "--help", "--out", "--dry-run", "--json", "--debug", "--compare")
EXPORTS = ("hf", "onnx", "gguf")


@dataclass(frozen=True, kw_only=True)
class ModelForm(ABC):
    """What all of them ask; every field is the text that stands in it, "on" for a box that is ticked."""

    model: str = ""
    """Run directory, checkpoint or model folder."""
    more: str = ""
    """Further flags, as a terminal takes them."""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """The form in a request.

        Raises:
            ConfigError: a field is unknown, no text or too long.
        """
        return cls(**texts_of(body, [field.name for field in fields(cls)]))

    def words(self) -> list[str]:
        """The command line, `mamba-slm` first.

        Raises:
            ConfigError: no model is given, or the further flags are not written as a terminal takes them.
        """
        more = further(self.more, refused=NOT_HERE)
        return ["mamba-slm", *self.command().split(), path_in(self.model, "a model"), *self.flags(), *more]

    @abstractmethod
    def command(self) -> str:
        """Which command it is, without `mamba-slm`."""

    @abstractmethod
    def flags(self) -> list[str]:
        """The flags of this form, and the arguments that stand before them."""

    def default_out(self) -> str:
        """What to write, relative to the folder of the dashboard; empty where nothing is written."""
        return ""


@dataclass(frozen=True, kw_only=True)
class QuantizeForm(ModelForm):
    """`mamba-slm quantize`."""

    out: str = ""
    to: str = "int8"
    method: str = "auto"
    keep: str = ""
    """Other formats for parts, such as in_proj=int8,head=bf16."""
    block_size: str = ""
    calibration: str = ""
    """Text for gptq."""
    text: str = ""
    """Text to measure on."""
    max_drop: str = ""
    """Largest rise of the perplexity, such as 1%."""
    sensitivity: str = "parts"
    speed: str = ""
    """"on": measure it, too."""

    def command(self) -> str:
        return "quantize"

    def flags(self) -> list[str]:
        flags = given("--out", self.out) + given("--to", self.to)
        flags += [] if self.method == "auto" else ["--method", self.method]
        flags += given("--keep", self.keep) + given("--block-size", self.block_size)
        flags += given("--calibration", self.calibration) + given("--text", self.text)
        flags += given("--max-drop", self.max_drop)
        flags += [] if self.sensitivity == "matrices" else ["--sensitivity", self.sensitivity]
        return flags if self.speed else [*flags, "--no-speed"]

    def default_out(self) -> str:
        return f"models/{name_of(self.model)}-{self.to or 'quantized'}"


@dataclass(frozen=True, kw_only=True)
class ExportForm(ModelForm):
    """`mamba-slm export hf|onnx|gguf`."""

    out: str = ""
    format: str = "gguf"
    dtype: str = "float32"
    """Of hf."""
    weights: str = ""
    """Of onnx: fp32, int8 or int4; empty: as they are."""
    graph: str = "fused"
    """Of onnx: fused, portable or both."""
    type: str = ""
    """Of gguf; empty: Q8_0, or what holds a quantized model's numbers."""
    text: str = ""
    """Of onnx and gguf: measure on it."""
    pad_vocabulary: str = ""
    """Of hf and gguf."""
    dequantize: str = ""
    """Of hf."""

    def command(self) -> str:
        if self.format not in EXPORTS:
            raise ConfigError(f"{self.format[:40]!r} is not a format to export to", hint=f"one of {', '.join(EXPORTS)}")
        return f"export {self.format}"

    def flags(self) -> list[str]:
        flags = given("--out", self.out)
        if self.format == "hf":
            flags += [] if self.dtype == "float32" else ["--dtype", self.dtype]
            flags += ["--dequantize"] if self.dequantize else []
        elif self.format == "onnx":
            flags += given("--weights", self.weights) + ([] if self.graph == "fused" else ["--form", self.graph])
        else:
            flags += given("--type", self.type)
        if self.format != "hf":
            flags += given("--text", self.text)
        if self.format != "onnx" and self.pad_vocabulary:
            flags.append("--pad-vocabulary")
        return flags

    def default_out(self) -> str:
        name = name_of(self.model)
        ends = {
            "hf": "-hf" if self.dtype == "float32" else f"-hf-{self.dtype}",
            "onnx": f"-onnx{f'-{self.weights}' if self.weights else ''}",
            "gguf": f"{f'-{self.type}' if self.type else ''}.gguf",
        }
        return f"exported/{name}{ends.get(self.format, '')}"


@dataclass(frozen=True, kw_only=True)
class VerifyForm(ModelForm):
    """`mamba-slm verify`: `model` is the reference."""

    other: str = ""
    tolerance: str = ""
    """Largest difference of a logit; empty: 1e-4."""
    tokens: str = ""
    text: str = ""

    def command(self) -> str:
        return "verify"

    def flags(self) -> list[str]:
        other = path_in(self.other, "the other model")
        return [
            other,
            *given("--tolerance", self.tolerance),
            *given("--tokens", self.tokens),
            *given("--text", self.text),
        ]


@dataclass(frozen=True, kw_only=True)
class FormatsForm(ModelForm):
    """`mamba-slm quantize --compare`: measures formats beside each other and writes nothing."""

    formats: str = "int8,int4,nf4,mixed"
    calibration: str = ""
    text: str = ""
    speed: str = ""

    def command(self) -> str:
        return "quantize"

    def flags(self) -> list[str]:
        flags = given("--compare", self.formats) + given("--calibration", self.calibration) + given("--text", self.text)
        return flags if self.speed else [*flags, "--no-speed"]


@dataclass(frozen=True, kw_only=True)
class MergeForm(ModelForm):
    """`mamba-slm adapters merge`: `model` is an adapter, and the model that it belongs to becomes one with it."""

    out: str = ""

    def command(self) -> str:
        return "adapters merge"

    def flags(self) -> list[str]:
        return ["--into", "base", *given("--out", self.out)]

    def default_out(self) -> str:
        return f"models/{name_of(self.model)}"


FORMS: dict[str, type[ModelForm]] = {
    "quantize": QuantizeForm,
    "formats": FormatsForm,
    "export": ExportForm,
    "verify": VerifyForm,
    "merge": MergeForm,
}


def form_of(body: Mapping[str, Any]) -> ModelForm:
    """The form that `do` names, with everything else in it.

    Raises:
        ConfigError: there is no such form, or a field does not belong to it.
    """
    do = body.get("do")
    if not isinstance(do, str) or do not in FORMS:
        raise ConfigError(f"{str(do)[:40]!r} is nothing to do with a model", hint=f"one of {', '.join(FORMS)}")
    return FORMS[do].of({key: value for key, value in body.items() if key != "do"})


def given(flag: str, text: str) -> list[str]:
    """A flag with its value; nothing where the field is empty. A value that looks like a flag stays a value."""
    if not text:
        return []
    return [f"{flag}={text}"] if text.startswith("-") else [flag, text]


def path_in(text: str, what: str) -> str:
    """A path that is an argument of its own.

    Raises:
        ConfigError: there is none, or it looks like a flag.
    """
    if not text:
        raise ConfigError(f"choose {what}")
    return f"./{text}" if text.startswith("-") else text


def name_of(model: str) -> str:
    """A name for what is made of a model: that of its folder, of a checkpoint also the run's.

    >>> name_of("runs/a/checkpoints/step-00000300"), name_of("runs/a/model/"), name_of("../m.b"), name_of("my «two»")
    ('a-step-300', 'a', 'm.b', 'my-two')
    """
    path = Path(model)
    parts = [part for part in path.parts if part not in ("..", "/")]
    if not parts:
        return "model"
    match = CHECKPOINT_NAME.fullmatch(parts[-1])
    if match and len(parts) > 2:
        return f"{parts[-3]}-step-{int(match[1])}"
    name = parts[-2] if parts[-1] == "model" and len(parts) > 1 else parts[-1]
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.+") or "model"


def free(folder: Path, wanted: str) -> str:
    """The path, with a number where there is something already; a suffix stays at the end."""
    path, number = Path(wanted), 1
    stem, suffix = (path.stem, path.suffix) if path.suffix == ".gguf" else (path.name, "")
    while (folder / path).exists() or (folder / path).is_symlink():
        number += 1
        path = path.with_name(f"{stem}-{number}{suffix}")
    return str(path)
