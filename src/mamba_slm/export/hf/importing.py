"""The way back: a dense GraniteMoeHybrid folder becomes a model folder of ours, compared before it is kept.

Multipliers that our model does not have are multiplied into the weights; the residual stream stays the same at every
layer. Without them the weights keep every bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mamba_slm.core.errors import CheckpointError, ConfigError, DataError
from mamba_slm.core.files import write_text_atomic
from mamba_slm.core.optional import require
from mamba_slm.core.output import new_output, require_free
from mamba_slm.export.compare import LOGIT_TOLERANCE, Comparison, compare, require_equal
from mamba_slm.export.formats import CONFIG_FILE, config_of, resolve
from mamba_slm.export.hf.lint import NEUTRAL, head_dim_of
from mamba_slm.export.hf.runner import PURPOSE, open_hf
from mamba_slm.export.portable import with_tensors, without_zero_feed_forwards
from mamba_slm.export.probes import probe_sequences
from mamba_slm.export.source import Source
from mamba_slm.export.trace import OurRunner
from mamba_slm.model.checkpoint import load_model, save_model
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.granite import MODEL_TYPE, from_granite_tensors
from mamba_slm.model.granite_import import DEFAULTS, model_config_from_granite, positive
from mamba_slm.model.hf_folder import make_loadable
from mamba_slm.model.weight_files import weight_files
from mamba_slm.text.chat_template import read_chat_template
from mamba_slm.text.hf_tokenizer import special_token_ids, tokenizer_config
from mamba_slm.text.tokenizer import FILE_NAME, Tokenizer

READ = {*DEFAULTS, "model_type", "head_dim", "rope_theta", "rope_scaling", "partial_rotary_factor"} | {
    *("layers_block_type", "original_max_position_embeddings", "quantization_config")
}
"""Keys that `model_config_from_granite` looks at."""
WITHOUT_EFFECT = {
    *("_attn_implementation_autoset", "_name_or_path", "architectures", "attention_dropout", "attn_implementation"),
    *("auto_map", "bos_token_id", "chunk_size_feed_forward", "dtype", "eos_token_id", "id2label", "init_method"),
    *("initializer_range", "intermediate_size", "is_decoder", "is_encoder_decoder", "label2id", "num_experts_per_tok"),
    *("output_attentions", "output_hidden_states", "output_router_logits", "pad_token_id", "problem_type"),
    *("return_dict", "router_aux_loss_coef", "task_specific_params", "tokenizer_class", "torch_dtype"),
    *("transformers_version", "use_cache"),
}
"""Keys that change nothing about what a dense model computes for given tokens."""
ONLY = {"normalization_function": "rmsnorm", "mlp_bias": False, "use_bidirectional_attention": False}
"""Keys that some configs have, and the one value that our model computes."""
WRITE_TO_THE_STREAM = (".out_proj.weight", ".o_proj.weight", ".down_proj.weight")


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What was written, and what was measured on it."""

    out: Path
    config: ModelConfig
    folded: dict[str, float]
    """Multipliers that went into the weights."""
    removed_feed_forwards: int
    """Feed-forwards of zeros that were left out."""
    parity: Comparison
    """transformers on the source against the new folder, both in float32."""
    tokenizer: bool
    """Whether one travelled along."""


def import_hf(
    path: Path | str,
    out: Path,
    *,
    needs_tokenizer: bool = True,
    overwrite: bool = False,
    tolerance: float = LOGIT_TOLERANCE,
    say: Callable[[str], None] = lambda _: None,
) -> Imported:
    """Write the GraniteMoeHybrid at `path` as a model folder of ours, verified.

    Args:
        path: a folder, or the hub id of one in the local cache.
        needs_tokenizer: refuse a folder without a byte-level BPE tokenizer.json.
        overwrite: replace `out`.
        tolerance: largest difference of a logit.
        say: is told what is going on.

    Raises:
        ConfigError: another architecture, experts, or a key that our model does not follow; names it.
        DataError: no such folder, no tokenizer, or one that is not byte-level BPE.
        CheckpointError: damaged weights, or tensors that do not fit the config.
        UsageError, DiskFullError: `out` exists, or does not fit.
        CheckFailedError: our model computes something else; names the first layer. Nothing is left.
        MissingDependencyError: transformers is absent.
    """
    require("transformers", extra="hf", purpose=PURPOSE)
    folder = resolve(path)
    values = config_of(folder)
    if values is None:
        raise DataError(f"{folder} is not a model of Hugging Face: it has no {CONFIG_FILE}")
    config, multipliers = read_config(values)
    require_free(out, overwrite=overwrite)
    tokenizer = None
    if needs_tokenizer or (folder / FILE_NAME).is_file():
        tokenizer = Tokenizer.load(folder)
        if tokenizer.vocab_size > config.vocab_size:
            raise CheckpointError(
                f"{folder} holds a tokenizer of {tokenizer.vocab_size} tokens, but a model of {config.vocab_size}"
            )
    template = read_chat_template(folder)
    files = weight_files(folder)
    needed = sum(file.stat().st_size for file in files) * (2 if multipliers else 1)
    tensors = from_granite_tensors(read_tensors(files), config)
    if multipliers:
        say("multiplied into the weights: " + ", ".join(f"{name} {value:g}" for name, value in multipliers.items()))
        tensors = fold(tensors, config, multipliers)
    smaller, tensors = without_zero_feed_forwards(tensors, config)
    removed = config.num_feed_forward - smaller.num_feed_forward
    if removed:
        say(f"left out: {removed} feed-forwards of zeros, which compute nothing")
    with new_output(out, needed_bytes=needed, overwrite=overwrite) as written:
        save_model(with_tensors(smaller, tensors), written)
        complete(written, smaller, tokenizer, template)
        say("comparing it with transformers on the source")
        theirs = open_hf(folder)
        ours = OurRunner(Source(written, load_model(written), tokenizer))
        sequences = probe_sequences(smaller.vocab_size, ours.encode, max_tokens=smaller.max_context_tokens)
        parity = compare(theirs, ours, sequences, tolerance=tolerance)
        require_equal(parity, tolerance=tolerance)
    return Imported(
        out=out,
        config=smaller,
        folded=multipliers,
        removed_feed_forwards=removed,
        parity=parity,
        tokenizer=tokenizer is not None,
    )


def read_config(values: Mapping[str, Any]) -> tuple[ModelConfig, dict[str, float]]:
    """Our config for a config.json, and the multipliers that must go into the weights.

    Raises:
        ConfigError: another architecture, experts, or a key that our model does not follow; names it.
    """
    kind = values.get("model_type")
    if kind != MODEL_TYPE:
        raise ConfigError(f"model_type is {kind!r}; only {MODEL_TYPE!r} can be imported")
    if values.get("num_local_experts", DEFAULTS["num_local_experts"]):
        raise ConfigError(
            f"num_local_experts is {values.get('num_local_experts', DEFAULTS['num_local_experts'])!r}: "
            "a mixture of experts cannot be imported",
            hint="dense models have num_local_experts 0",
        )
    for key, value in values.items():
        if key in ONLY and value not in (ONLY[key], None):
            raise ConfigError(f"{key} is {value!r}; our model computes only {ONLY[key]!r}")
        if key not in READ | WITHOUT_EFFECT | set(ONLY) and value is not None:
            raise ConfigError(
                f"config.json has {key} = {value!r}, which is not known here",
                hint="it may change what the model computes; if it does not, remove the key from a copy",
            )
    neutral: dict[str, float] = dict(NEUTRAL)
    if (head_dim := head_dim_of(values)) is not None:
        neutral["attention_multiplier"] = head_dim**-0.5
    found = {key: positive(DEFAULTS | dict(values), key) for key in neutral}
    multipliers = {key: found[key] for key in neutral if not math.isclose(found[key], neutral[key], rel_tol=1e-7)}
    return model_config_from_granite({**values, **neutral}), multipliers


def fold(tensors: Mapping[str, Tensor], config: ModelConfig, multipliers: Mapping[str, float]) -> dict[str, Tensor]:
    """The tensors in float32 with every multiplier in the weights it stands beside.

    A tied head shares the embedding's multiplier; the norm before it takes that back.
    """
    found = {name: tensor.float() for name, tensor in tensors.items()}
    embedding = multipliers.get("embedding_multiplier", 1.0)
    residual = multipliers.get("residual_multiplier", 1.0)
    scores = multipliers.get("attention_multiplier", config.head_dim**-0.5) * config.head_dim**0.5
    head = 1.0 / multipliers.get("logits_scaling", 1.0) / (embedding if config.tie_embeddings else 1.0)
    for name, tensor in found.items():
        if name == "embedding.weight":
            found[name] = tensor * embedding
        elif name == "final_norm.weight":
            found[name] = tensor * head
        elif name.endswith(".q_proj.weight"):
            found[name] = tensor * scores
        elif name.endswith(WRITE_TO_THE_STREAM):
            found[name] = tensor * residual
    return found


def read_tensors(files: list[Path]) -> dict[str, Tensor]:
    """All tensors of several safetensors files.

    Raises:
        CheckpointError: a file is damaged.
    """
    found: dict[str, Tensor] = {}
    for file in files:
        try:
            found |= load_file(file, device="cpu")
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{file} cannot be read: {error}", hint="the file is cut short or damaged") from error
    for name, tensor in found.items():
        if not tensor.is_floating_point() or tensor.dtype.itemsize < torch.float16.itemsize:
            raise CheckpointError(f"{name} is stored as {tensor.dtype}; quantized weights cannot be imported")
    return found


def complete(folder: Path, config: ModelConfig, tokenizer: Tokenizer | None, template: str | None) -> None:
    """Tokenizer, chat template and what transformers wants to find, as in the folder of a finished run."""
    if tokenizer is None:
        make_loadable(folder)
        return
    tokenizer.save(folder)
    if template is not None:
        write_text_atomic(folder / "chat_template.jinja", template)
    make_loadable(
        folder,
        token_ids=special_token_ids(tokenizer),
        tokenizer_config=tokenizer_config(tokenizer, max_tokens=config.max_context_tokens),
    )
