"""Write a folder for transformers, open it with transformers, compare, and only then put it in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mamba_slm.core.errors import CheckFailedError, UsageError
from mamba_slm.core.files import write_text_atomic
from mamba_slm.core.optional import require
from mamba_slm.core.output import new_output, require_free
from mamba_slm.core.units import format_bytes
from mamba_slm.export.card import model_card
from mamba_slm.export.compare import LOGIT_TOLERANCE, Comparison, compare, require_equal
from mamba_slm.export.hf.lint import Verdict, verdicts
from mamba_slm.export.hf.runner import PURPOSE, HfRunner, open_hf
from mamba_slm.export.hf.write import (
    DEFAULT_SHARD_BYTES,
    KEPT_FLOAT32,
    hf_config,
    weights_bytes,
    write_folder,
    written_files,
)
from mamba_slm.export.portable import make_portable, require_portable, with_tensors, zero_feed_forwards
from mamba_slm.export.probes import TEXT, probe_sequences
from mamba_slm.export.source import Source, open_source
from mamba_slm.export.trace import OurRunner
from mamba_slm.model.checkpoint import load_config, resolve_model_folder
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.quantized import quantization_of
from mamba_slm.model.stack import LanguageModel
from mamba_slm.text.chat import CHATML_TEMPLATE, render_chat
from mamba_slm.text.chat_template import read_chat_template
from mamba_slm.text.tokenizer import FILE_NAME

CONVERSATION = [
    {"role": "user", "content": "What is a lake?"},
    {"role": "assistant", "content": "Water with land around it."},
    {"role": "user", "content": "And a river?\n"},
]


@dataclass(frozen=True, kw_only=True)
class HfExport:
    """What was written, and what was measured on it."""

    out: Path
    files: dict[str, int]
    """Name and bytes."""
    dtype: str
    config: ModelConfig
    """As exported."""
    parity: Comparison
    """Our model, with the weights as they are stored, against the folder in transformers, both computing in float32."""
    rounding: Comparison | None
    """Our model in float32 against the folder as transformers runs it in `dtype`; None for float32."""
    tokenizer_checked: bool
    """Whether there is a tokenizer, and AutoTokenizer gave the same ids, text and conversation."""
    verdicts: tuple[Verdict, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class HfPlan:
    """What an export would be."""

    config: ModelConfig
    """As exported."""
    verdicts: tuple[Verdict, ...]
    warnings: tuple[str, ...]
    weights_bytes: int


def plan_export(
    path: Path | str, *, dtype: torch.dtype, pad_vocabulary: bool = False, dequantize: bool = False
) -> HfPlan:
    """What the export of the model at `path` would be, without reading a weight.

    Raises:
        DataError: no model there.
        UsageError: it is quantized, and `dequantize` is not asked for.
        ConfigError: a GraniteMoeHybrid cannot hold it; names the setting.
    """
    config, quantization = load_config(resolve_model_folder(path)), quantization_of(path)
    if quantization is not None and not dequantize:
        raise UsageError(
            f"{path} is quantized ({quantization}), and a folder of Hugging Face holds floating point",
            hint="export gguf and export onnx keep its numbers; --dequantize writes their values; or export the model "
            "that it was made from",
        )
    portable = require_portable(config, pad_vocabulary=pad_vocabulary)
    warnings = []
    if quantization is not None:
        warnings.append(
            f"the weights are the values that numbers of few bits stand for ({quantization}): the quality of these, at "
            f"the size of {str(dtype).removeprefix('torch.')}"
        )
    if added := zero_feed_forwards(config):
        warnings.append(str(added))
    if portable.vocab_size > config.vocab_size:
        warnings.append(
            f"the vocabulary of {config.vocab_size:,} is padded to {portable.vocab_size:,}: the new tokens have "
            "logit 0 and no text, and a sampler may draw them"
        )
    return HfPlan(
        config=portable,
        verdicts=tuple(verdicts(hf_config(portable, dtype=dtype))),
        warnings=tuple(warnings),
        weights_bytes=weights_bytes(portable, dtype),
    )


def export_hf(
    path: Path | str,
    out: Path,
    *,
    dtype: torch.dtype = torch.float32,
    max_shard_bytes: int = DEFAULT_SHARD_BYTES,
    pad_vocabulary: bool = False,
    dequantize: bool = False,
    overwrite: bool = False,
    needs_tokenizer: bool = True,
    tolerance: float = LOGIT_TOLERANCE,
    say: Callable[[str], None] = lambda _: None,
) -> HfExport:
    """Write the model at `path` to the folder `out` for transformers' `GraniteMoeHybridForCausalLM`, verified.

    Args:
        path: run directory, checkpoint or model folder of ours.
        dtype: of the stored weights, except `KEPT_FLOAT32`.
        max_shard_bytes: size of a safetensors file.
        pad_vocabulary: fill the vocabulary up to a multiple of 8.
        dequantize: write the values of a quantized model; it is refused otherwise.
        overwrite: replace `out`.
        needs_tokenizer: refuse a model without one.
        tolerance: largest difference of a logit.
        say: is told the warnings, before the work, and what is going on.

    Raises:
        ConfigError: a GraniteMoeHybrid or the dtype cannot hold the model; names the setting or tensor.
        DataError: no model, or no tokenizer.
        UsageError, DiskFullError: `out` exists, or does not fit; or the model is quantized.
        CheckFailedError: transformers computes something else; names the first layer. Nothing is left.
        MissingDependencyError: transformers is absent.
    """
    require("transformers", extra="hf", purpose=PURPOSE)
    plan = plan_export(path, dtype=dtype, pad_vocabulary=pad_vocabulary, dequantize=dequantize)
    require_free(out, overwrite=overwrite)
    for warning in plan.warnings:
        say(f"warning: {warning}")
    source = open_source(path, needs_tokenizer=needs_tokenizer)
    model = make_portable(source.model, pad_vocabulary=pad_vocabulary)
    num_bytes = plan.weights_bytes
    if source.tokenizer is not None:
        num_bytes += (source.folder / FILE_NAME).stat().st_size
    template = read_chat_template(source.folder)
    name = str(dtype).removeprefix("torch.")
    with new_output(out, needed_bytes=num_bytes, overwrite=overwrite) as folder:
        say(f"writing {format_bytes(num_bytes)}, weights in {name}")
        write_folder(
            folder,
            model,
            dtype=dtype,
            tokenizer=source.tokenizer,
            chat_template=template,
            max_shard_bytes=max_shard_bytes,
        )
        say("opening it with transformers and comparing")
        theirs = open_hf(folder)
        check_tokenizer(source, theirs, template)
        ours = OurRunner(Source(source.folder, as_stored(source.model, dtype), source.tokenizer))
        sequences = sequences_for(source)
        parity = compare(ours, theirs, sequences, tolerance=tolerance)
        require_equal(parity, tolerance=tolerance)
        rounding = None
        if dtype != torch.float32:
            del theirs
            rounding = compare(OurRunner(source), open_hf(folder, dtype=dtype), sequences, tolerance=float("inf"))
        export = HfExport(
            out=out,
            files={},
            dtype=name,
            config=plan.config,
            parity=parity,
            rounding=rounding,
            tokenizer_checked=source.tokenizer is not None,
            verdicts=plan.verdicts,
            warnings=plan.warnings,
        )
        card = model_card(
            out.name,
            plan.config,
            dtype=name,
            parity=parity,
            rounding=rounding,
            verdicts=plan.verdicts,
            warnings=plan.warnings,
            has_chat=template is not None,
        )
        write_text_atomic(folder / "README.md", card)
        files = written_files(folder)
    return replace(export, files=files)


def as_stored(model: LanguageModel, dtype: torch.dtype) -> LanguageModel:
    """The model with each weight rounded as `write_folder` stores it, in float32."""
    if dtype == torch.float32:
        return model
    tensors = {
        name: tensor if f".{name}".endswith(KEPT_FLOAT32) else tensor.to(dtype).float()
        for name, tensor in model.state_dict().items()
    }
    return with_tensors(model.config, tensors)


def sequences_for(source: Source) -> list[list[int]]:
    """Random tokens, every special token and, with a tokenizer, text."""
    encode = None if source.tokenizer is None else source.tokenizer.encode
    found = probe_sequences(source.config.vocab_size, encode, max_tokens=source.config.max_context_tokens)
    special = sorted(source.tokenizer.special_ids)[: source.config.max_context_tokens] if source.tokenizer else []
    return [*found, special] if special else found


def check_tokenizer(source: Source, theirs: HfRunner, template: str | None) -> None:
    """Raise CheckFailedError unless AutoTokenizer turns text and a conversation into our ids, and ids into our text."""
    ours = source.tokenizer
    if ours is None:
        return
    expected = ours.encode(TEXT)
    require_same("the tokens of a text", theirs.encode(TEXT), expected)
    require_same("the text of tokens", theirs.tokenizer.decode(expected), ours.decode(expected))
    ids = theirs.tokenizer.bos_token_id, theirs.tokenizer.eos_token_id, theirs.tokenizer.pad_token_id
    require_same("begin, end and padding", ids, (ours.bos_id, ours.eos_id, ours.pad_id))
    if template is not None and (template != CHATML_TEMPLATE or ours.first_id_of(["<|im_end|>"]) is not None):
        rendered = theirs.tokenizer.apply_chat_template(CONVERSATION, add_generation_prompt=True, return_dict=False)
        ours_rendered = render_chat(CONVERSATION, ours, add_generation_prompt=True, template=template)
        require_same("the tokens of a conversation", rendered, ours_rendered.ids)


def require_same(what: str, found: object, expected: object) -> None:
    """Raise CheckFailedError, showing where they part, unless the two are equal."""
    if found == expected:
        return
    where = ""
    if isinstance(found, Sequence) and isinstance(expected, Sequence):
        pairs = zip(found, expected, strict=False)
        at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(found), len(expected)))
        where = f" from place {at} on: {list(found[at : at + 5])} instead of {list(expected[at : at + 5])}"
    raise CheckFailedError(
        f"transformers' tokenizer differs in {what}{where}",
        hint="nothing was kept; a tokenizer.json with a normalizer or post-processor of its own can cause this",
    )
