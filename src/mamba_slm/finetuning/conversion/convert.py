"""A Llama becomes a model folder of ours: what stays is copied, the rest begins with what it replaces."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mamba_slm.core.errors import CheckpointError
from mamba_slm.core.files import write_json_atomic
from mamba_slm.core.output import new_output, require_free
from mamba_slm.finetuning.conversion.shape import HybridShape
from mamba_slm.finetuning.conversion.source import LlamaFolder, open_llama
from mamba_slm.finetuning.conversion.starting import mamba_from_attention
from mamba_slm.model.checkpoint import dtype_of, save_weights
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import count_parameters
from mamba_slm.model.llama import llama_tensors
from mamba_slm.model.pattern import FEED_FORWARD, MAMBA
from mamba_slm.text.chat_template import read_chat_template
from mamba_slm.text.tokenizer import Tokenizer
from mamba_slm.training.publishing import complete_for_transformers

CONVERSION_FILE = "conversion.json"
ATTENTION_PARTS = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What was written."""

    out: Path
    config: ModelConfig
    """Of the hybrid."""
    source: ModelConfig
    """Of the Transformer."""
    replaced: tuple[int, ...]
    """Layers whose attention is Mamba-2 now, counted from 0."""
    copied_parameters: int
    """Weights that are the Transformer's own, unchanged."""

    @property
    def parameters(self) -> int:
        """All weights."""
        return count_parameters(self.config).total

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "format_version": 1,
            "out": str(self.out),
            "pattern": self.config.pattern,
            "replaced_layers": list(self.replaced),
            "parameters": self.parameters,
            "copied_parameters": self.copied_parameters,
            "source_parameters": count_parameters(self.source).total,
        }


def convert(
    source: Path | str,
    out: Path,
    *,
    shape: HybridShape | None = None,
    seed: int = 0,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Converted:
    """Write the hybrid of a Llama folder as a model folder.

    Weights keep the dtype that they are stored in; the tensors that `model.checkpoint` keeps in float32 are float32.
    The tokenizer and the chat template travel along. Memory: the hybrid's weights once, mapped where they are copied.

    Args:
        source: folder of a Llama, Mistral or Qwen2 with safetensors and a tokenizer.
        shape: which layers keep their attention, and the sizes of the others.
        seed: of what the attention says nothing about.

    Raises:
        ConfigError: another architecture, a key that our model does not follow, or sizes that do not fit.
        DataError, CheckpointError: no Llama there, or a damaged one.
        UsageError, DiskFullError: `out` exists, or does not fit.
    """
    require_free(out, overwrite=overwrite)
    llama = open_llama(source)
    config = (shape or HybridShape()).hybrid(llama.config)
    tokenizer = Tokenizer.load(llama.folder)
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"{llama.folder} holds a tokenizer of {tokenizer.vocab_size} tokens, but a model of {config.vocab_size}"
        )
    tensors, copied = hybrid_tensors(llama, config, seed=seed)
    replaced = tuple(layer for layer, kind in enumerate(config.pattern.replace(FEED_FORWARD, "")) if kind == MAMBA)
    result = Converted(out=out, config=config, source=llama.config, replaced=replaced, copied_parameters=copied)
    say(describe(result))
    needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    with new_output(out, needed_bytes=needed, overwrite=overwrite) as written:
        save_weights(tensors, config, written)
        tokenizer.save(written)
        if (template := read_chat_template(llama.folder)) is not None:
            (written / "chat_template.jinja").write_text(template, encoding="utf-8")
        for name in ("generation_config.json",):
            if (llama.folder / name).is_file():
                shutil.copyfile(llama.folder / name, written / name)
        complete_for_transformers(written)
        write_json_atomic(written / CONVERSION_FILE, {**result.to_dict(), "source": str(Path(source).resolve())})
    return result


def hybrid_tensors(llama: LlamaFolder, config: ModelConfig, *, seed: int) -> tuple[dict[str, Tensor], int]:
    """All tensors of the hybrid by our names, and how many numbers of them were copied."""
    replaced = [index for index, kind in enumerate(config.pattern) if kind == MAMBA]
    dropped = {f"sublayers.{index}.mixer.{part}.weight" for index in replaced for part in ATTENTION_PARTS}
    tensors = {name: tensor.to(dtype_of(name, tensor.dtype)) for name, tensor in llama.items() if name not in dropped}
    copied = sum(tensor.numel() for tensor in tensors.values())
    theirs = {tensor.ours: tensor.theirs[0] for tensor in llama_tensors(llama.config)}
    for index in replaced:
        at = f"sublayers.{index}.mixer."
        attention = {part: llama.read(theirs[f"{at}{part}.weight"]) for part in ATTENTION_PARTS}
        stored = attention["q_proj"].dtype
        for name, tensor in mamba_from_attention(attention, config, seed=seed + index).items():
            tensors[at + name] = tensor.to(dtype_of(at + name, stored))
    return tensors, copied


def describe(result: Converted) -> str:
    """What became of it, in a line."""
    layers = result.config.num_layers
    return (
        f"{layers - len(result.replaced)} of {layers} layers keep attention, {len(result.replaced)} begin as Mamba-2 "
        f"with its projections; {result.copied_parameters / result.parameters:.0%} of {result.parameters:,} parameters "
        "are copied"
    )
