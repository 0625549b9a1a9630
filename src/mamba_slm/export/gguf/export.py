"""Export to GGUF: plan, write, read back, compare, and only then put the file in its place."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mamba_slm.core.errors import CheckFailedError, UsageError
from mamba_slm.core.files import write_text_atomic
from mamba_slm.core.output import new_output, require_free
from mamba_slm.core.units import format_bytes, format_count
from mamba_slm.export.compare import LOGIT_TOLERANCE, Comparison, compare, require_equal
from mamba_slm.export.gguf.chat import modelfile
from mamba_slm.export.gguf.layout import absent_feed_forward_parameters
from mamba_slm.export.gguf.runner import GgufRunner, LlamaCppRunner, llama_cpp_is_installed, open_gguf
from mamba_slm.export.gguf.stored import AS_STORED, excess_of_numbers, is_exact, with_padded_source
from mamba_slm.export.gguf.types import (
    BLOCK_BYTES,
    BLOCKS,
    FILE_TYPES,
    FLOAT,
    HALF,
    Q4_0,
    Q8_0,
    excess_error,
    gguf_package,
)
from mamba_slm.export.gguf.write import FilePlan, plan_file, write_gguf
from mamba_slm.export.probes import TEXT, probe_sequences, text_sequences
from mamba_slm.export.source import Source
from mamba_slm.export.trace import OurRunner, Runner
from mamba_slm.text.chat_template import read_chat_template

SUFFIX = ".gguf"
MODELFILE_SUFFIX = ".Modelfile"
TEXT_PIECES = 8
PIECE_TOKENS = 256
"""Of a text that the user gives, the first pieces are compared."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """The model against the file in one runtime."""

    probes: Comparison
    """On random tokens and a short difficult text; what decides."""
    text: Comparison | None
    """On the text that the user gave; None without one."""


@dataclass(frozen=True, kw_only=True)
class GgufExport:
    """What was written and how it was checked."""

    file: Path
    modelfile: Path
    file_type: str
    bytes: int
    tensors_by_type: dict[str, int]
    fallen_back: dict[str, str]
    """Tensors whose rows do not fit the type, and the type they have instead."""
    rounded_again: dict[str, float]
    """Matrices of a quantized model whose values are not the stored ones to the last bit: the largest difference, as a
    share of the matrix's largest value."""
    pre_tokenizer: str
    warnings: tuple[str, ...]
    read_back: Check
    """The model against the file, read back into our model."""
    llama_cpp: Check | None
    """The model against the file in llama.cpp; None where it is not installed or was not wanted."""

    def to_json(self) -> dict[str, Any]:
        """The summary for `--json`."""
        values: dict[str, Any] = asdict(self) | {"file": str(self.file), "modelfile": str(self.modelfile)}
        for check in (values["read_back"], values["llama_cpp"]):
            for compared in (check or {}).values():
                if compared is not None:
                    compared.pop("layers")
        return values


def export_gguf(
    source: Source,
    out: Path,
    *,
    file_type: str | None = None,
    text: str | None = None,
    in_llama_cpp: bool | None = None,
    pad_vocabulary: bool = False,
    overwrite: bool = False,
) -> GgufExport:
    """Write `source` as a GGUF file and a Modelfile beside it.

    Args:
        source: the model, opened with its tokenizer.
        out: a path that ends in .gguf.
        file_type: a key of `FILE_TYPES`, or `AS_STORED` for a quantized model; None: that, or F32 for another model.
        text: measures agreement and perplexity on this text too.
        in_llama_cpp: also compare with the file in llama.cpp; None means where it is installed.
        pad_vocabulary: add rows of zeros to a vocabulary that is no multiple of 8; else it is refused.
        overwrite: replace what is there.

    Raises:
        UsageError: `out` has another ending, or exists.
        ConfigError: llama.cpp does not compute this model, or has no type for its numbers.
        DataError: llama.cpp does not tokenize like this tokenizer, or the chat template cannot be read.
        DiskFullError: too little space.
        MissingDependencyError: gguf is not installed, or llama-cpp-python is not and was asked for.
        CheckFailedError: the file differs from the model by more than its type explains; nothing is left.
    """
    if out.suffix.lower() != SUFFIX:
        raise UsageError(f"{out} does not end in {SUFFIX}", hint=f"--out {out.with_suffix(SUFFIX)}")
    assert source.tokenizer is not None, "open the source with its tokenizer"
    gguf_package("writing GGUF files")
    template = read_chat_template(source.folder)
    file_type = file_type or (AS_STORED if source.quantized else FLOAT)
    if pad_vocabulary:
        source = with_padded_source(source)
        assert source.tokenizer is not None
    planned = plan_file(source, file_type=file_type, name=out.stem, chat_template=template)
    recipe = out.with_suffix(MODELFILE_SUFFIX)
    require_free(recipe, overwrite=overwrite)
    if in_llama_cpp is None:
        in_llama_cpp = llama_cpp_is_installed()
    with new_output(out, needed_bytes=planned.bytes, overwrite=overwrite, is_file=True) as temporary:
        write_gguf(planned, temporary)
        read = open_gguf(temporary)
        rounded_again = require_same_tensors(planned, read)
        read_back = checked(planned, read, text)
        in_program = checked_in_llama_cpp(planned, temporary, text) if in_llama_cpp else None
        size = temporary.stat().st_size
    max_tokens = source.config.max_context_tokens
    write_text_atomic(recipe, modelfile(out.name, source.tokenizer, template, max_tokens=max_tokens))
    types = [each.type for each in planned.tensors]
    return GgufExport(
        file=out,
        modelfile=recipe,
        file_type=file_type,
        bytes=size,
        tensors_by_type={name: types.count(name) for name in dict.fromkeys(types)},
        fallen_back=planned.fallen_back,
        rounded_again=rounded_again,
        pre_tokenizer=planned.vocabulary.pre,
        warnings=tuple(warnings_about(planned)),
        read_back=read_back,
        llama_cpp=in_program,
    )


def warnings_about(planned: FilePlan) -> list[str]:
    """What the file costs or loses, in sentences."""
    found = list(planned.vocabulary.notes)
    config = planned.source.config
    absent = absent_feed_forward_parameters(config)
    if absent:
        layers = config.num_layers - config.num_feed_forward
        size = absent // BLOCKS[Q4_0] * BLOCK_BYTES[Q4_0]
        found.append(
            f"{layers} of {config.num_layers} layers have no feed-forward and llama.cpp wants one in each: they get "
            f"zeros, {format_count(absent)} parameters that change nothing and cost {format_bytes(size)} and "
            f"{format_count(2 * absent)} operations per token"
        )
    return found


def require_same_tensors(planned: FilePlan, read: GgufRunner) -> dict[str, float]:
    """Raise CheckFailedError, naming the tensor, unless every one is as near to the model's as its type allows.

    Returns:
        See `GgufExport.rounded_again`.
    """
    tensors, rounded_again = planned.source.model.state_dict(), {}
    for each in planned.tensors:
        name, stored = each.tensor.name, read.read.file.tensors[each.tensor.name].numpy()
        values = each.tensor.make(tensors)
        if each.numbers is None:
            excess = excess_error(values, stored, each.type)
        else:
            excess = excess_of_numbers(each, values, stored)
        if excess > 1:
            raise CheckFailedError(f"{name} differs from the model by {excess:.3g} times what {each.type} allows")
        error = float(np.abs(values - stored).max(initial=0.0))
        if error and any(source in planned.source.quantized for source in each.tensor.sources):
            rounded_again[name] = error / float(np.abs(values).max())
    return rounded_again


def checked(planned: FilePlan, other: Runner, text: str | None) -> Check:
    """Compare the model with a runner of the file, in how it tokenizes and in what it computes.

    Raises:
        CheckFailedError: names what differs.
    """
    tokenizer, reference = planned.source.tokenizer, OurRunner(planned.source)
    assert tokenizer is not None
    if other.encode(TEXT) != tokenizer.encode(TEXT):
        raise CheckFailedError(f"{other.description} tokenizes a text otherwise than the model's tokenizer")
    longest = min(reference.max_tokens, other.max_tokens)
    probes = compare(reference, other, probe_sequences(tokenizer.vocab_size, tokenizer.encode, max_tokens=longest))
    require_quality(probes, quality_of(planned, in_llama_cpp=not isinstance(other, OurRunner)))
    pieces = text_sequences(tokenizer.encode, min(PIECE_TOKENS, longest), text=text or "", count=TEXT_PIECES)
    return Check(probes=probes, text=compare(reference, other, pieces) if pieces else None)


def checked_in_llama_cpp(planned: FilePlan, path: Path, text: str | None) -> Check:
    """Compare the model with the file in llama.cpp.

    Raises:
        CheckFailedError: llama.cpp computes or tokenizes otherwise.
        MissingDependencyError: llama-cpp-python is not installed.
    """
    runner = LlamaCppRunner(path, max_tokens=PIECE_TOKENS)
    try:
        return checked(planned, runner, text)
    finally:
        runner.close()


def quality_of(planned: FilePlan, *, in_llama_cpp: bool) -> str:
    """The type whose limits hold for the logits.

    A quantized model as stored must stay the same function. llama.cpp rounds what it multiplies numbers with to 8 bits.
    """
    if planned.file_type != AS_STORED:
        return planned.file_type
    if in_llama_cpp:
        return Q8_0
    exact = all(each.numbers is None or is_exact(each.numbers, each.type) for each in planned.tensors)
    return FLOAT if exact else HALF


def require_quality(comparison: Comparison, file_type: str) -> None:
    """Raise CheckFailedError unless the logits are equal or, for a type that rounds, as near as it should be."""
    if file_type == FLOAT:
        require_equal(comparison, tolerance=LOGIT_TOLERANCE)
        return
    limits = FILE_TYPES[file_type]
    if comparison.mean_kl > limits.largest_kl or comparison.argmax_agreement < limits.least_agreement:
        raise CheckFailedError(
            f"{comparison.other} differs from {comparison.reference} by more than {file_type} explains: KL "
            f"{comparison.mean_kl:.3g} nats (at most {limits.largest_kl}), argmax agreement "
            f"{comparison.argmax_agreement:.3f} (at least {limits.least_agreement})",
            hint="choose a type with more bits: --type Q8_0, or --type F32, which must be exact",
        )
