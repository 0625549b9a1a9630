"""What an exported ONNX folder holds and how its graphs are called. No torch, no onnx.

`mamba_slm_onnx.json` in the folder is this contract: the model's config and the graph files. All graphs of a folder, of
both forms (`fused`: operators of ONNX Runtime; `portable`: standard operators only), have the same inputs and outputs:

    input_ids           int64   [batch_size, L]       the new tokens of every row
    attention_mask      int64   [batch_size, T]       the masks of all pieces so far, side by side: T = P + L
    num_logits_to_keep  int64   []                    may be left out; 0: a logit row for each of the L positions,
                                                      n: those after the last n real tokens of each row
    past_conv.{i}       float32 [batch_size, w, c]    Mamba layer i: the last w = conv_kernel - 1 raw inputs
    past_ssm.{i}        float32 [batch_size, h, n, p] Mamba layer i: the SSM state; ours is [b h p n]
    past_key_values.{i}.key, .value   float32 [batch_size, k, P, d]   attention layer i: P earlier slots

    logits              float32 [batch_size, L or n, v]
    present_conv.{i}, present_ssm.{i}, present.{i}.key, present.{i}.value: the same after the call; keys have T slots

i counts the token mixers of the pattern (`M` and `*`, not `-`) from 0. Before the first token every state is zeros, and
keys and values have 0 slots.

Padding, 0 in attention_mask, may stand left or right of the tokens of a piece. It changes no state: a row with n real
tokens so far has its keys in the slots 0 … n-1, whatever was padded where, and what the other slots hold is never read.
So rows of different lengths are cut out, repeated and put together by indexing the first axis of every state, where the
masks are [ones n, zeros T - n] in any order. A row may be all padding in a piece.

The fused form has one limit: a piece of more than one token that continues earlier ones takes one row at a time
(`GroupQueryAttention` refuses more). The first piece and single tokens take any number of rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from mamba_slm.core.errors import DataError, MambaSlmError, SetupError
from mamba_slm.core.files import write_json_atomic
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.pattern import FEED_FORWARD, MAMBA

CONTRACT_FILE = "mamba_slm_onnx.json"
ONNX_FORMAT_VERSION = 1

INPUT_IDS, ATTENTION_MASK, NUM_LOGITS_TO_KEEP, LOGITS = "input_ids", "attention_mask", "num_logits_to_keep", "logits"

Form = Literal["fused", "portable"]
Weights = Literal["fp32", "int8", "int4"]
FORMS: tuple[Form, ...] = get_args(Form)
WEIGHTS: tuple[Weights, ...] = get_args(Weights)


@dataclass(frozen=True, kw_only=True)
class OnnxState:
    """One state tensor of the graph, float32."""

    layer: int
    """Number of the token mixer it belongs to."""
    past: str
    """Name of the input."""
    present: str
    """Name of the output."""
    shape: tuple[int | str, ...]
    """Sizes of the input; "batch_size" and "past_length" are free."""
    grows: bool
    """Whether axis 2 counts slots of a key-value cache: the output has as many as attention_mask."""

    def empty_shape(self, rows: int) -> tuple[int, ...]:
        """Shape before the first token of `rows` sequences."""
        free = {"batch_size": rows, "past_length": 0}
        return tuple(free[size] if isinstance(size, str) else size for size in self.shape)


def onnx_states(config: ModelConfig) -> Iterator[OnnxState]:
    """Every state of the model's graphs, in the order of the graph's inputs and outputs."""
    mixers = [kind for kind in config.pattern if kind != FEED_FORWARD]
    for layer, kind in enumerate(mixers):
        if kind == MAMBA:
            window = ("batch_size", config.conv_kernel - 1, config.conv_size)
            yield state_of(layer, f"past_conv.{layer}", f"present_conv.{layer}", window)
            ssm = ("batch_size", config.num_ssm_heads, config.state_size, config.ssm_head_dim)
            yield state_of(layer, f"past_ssm.{layer}", f"present_ssm.{layer}", ssm)
        else:
            cache = ("batch_size", config.num_kv_heads, "past_length", config.head_dim)
            for part in ("key", "value"):
                yield state_of(layer, f"past_key_values.{layer}.{part}", f"present.{layer}.{part}", cache)


def state_of(layer: int, past: str, present: str, shape: tuple[int | str, ...]) -> OnnxState:
    """A state; it grows where its shape has a past length."""
    return OnnxState(layer=layer, past=past, present=present, shape=shape, grows="past_length" in shape)


@dataclass(frozen=True, kw_only=True)
class OnnxContract:
    """The content of `mamba_slm_onnx.json`."""

    config: ModelConfig
    """The model's own config."""
    weights: Weights
    """How matrices are stored. Everything else is float32."""
    files: Mapping[str, str]
    """Form → graph file, relative to the folder; weights may lie beside it as external data."""
    block_size: int = 0
    """Weights that share one scale; 0 for fp32."""

    def write(self, folder: Path) -> None:
        """Write `folder`/mamba_slm_onnx.json.

        Raises:
            DiskFullError: no room.
        """
        stored = asdict(self) | {"files": dict(self.files), "config": self.config.stored()}
        write_json_atomic(folder / CONTRACT_FILE, {"format_version": ONNX_FORMAT_VERSION} | stored)

    def graph_file(self, folder: Path, form: Form | None = None) -> Path:
        """The graph of a form, or of the fastest form there is.

        Raises:
            DataError: the folder does not hold it.
        """
        chosen = form or next(name for name in FORMS if name in self.files)
        if chosen not in self.files:
            raise DataError(
                f"{folder} holds no {chosen} graph, only {', '.join(self.files)}",
                hint=f"export it again with --form {chosen}, or --form both",
            )
        file = folder / self.files[chosen]
        if not file.is_file():
            raise DataError(f"{file} is missing", hint="copy the folder again, or export it again")
        return file


def is_onnx_folder(path: Path) -> bool:
    """Whether `mamba-slm export onnx` wrote this folder."""
    return (path / CONTRACT_FILE).is_file()


def read_onnx_contract(folder: Path) -> OnnxContract:
    """Read `mamba_slm_onnx.json`.

    Raises:
        DataError: absent, or damaged.
        SetupError: written by a newer package.
    """
    path = folder / CONTRACT_FILE
    damaged = "copy the folder again, or export it again"
    try:
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = int(stored.pop("format_version"))
    except FileNotFoundError as error:
        raise DataError(
            f"{folder} is not an exported ONNX folder: it holds no {CONTRACT_FILE}",
            hint="mamba-slm export onnx MODEL --out FOLDER makes one",
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is damaged: {error!r}", hint=damaged) from error
    if version > ONNX_FORMAT_VERSION:
        raise SetupError(
            f"{path} has format version {version}, this package reads up to {ONNX_FORMAT_VERSION}",
            hint="it was written by a newer mamba-slm: pip install --upgrade mamba-slm",
        )
    try:
        config = ModelConfig(**stored.pop("config"))
        contract = OnnxContract(config=config, **stored)
        if not contract.files or set(contract.files) - set(FORMS) or contract.weights not in WEIGHTS:
            raise ValueError(f"files are {dict(contract.files)}, weights are {contract.weights!r}")
    except (KeyError, TypeError, ValueError, MambaSlmError) as error:
        raise DataError(f"{path} is damaged: {error!r}", hint=damaged) from error
    return contract
