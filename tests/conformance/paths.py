"""Our own ways to compute the same function. A new way is one entry here; other people's are in `oracles`.

A path takes a model of its own (it may cast or patch it) and token sequences [t], and returns the logits [t v] of each,
differentiable with respect to the model's parameters unless `gradients` is False.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from conformance.models import CONFIGS, KERNEL_CONFIGS, LENGTHS, fresh_model, set_scan_backend
from mamba_slm.generation.compiled.runtime import CompiledRuntime
from mamba_slm.model.checkpoint import dtype_of
from mamba_slm.model.hf import HybridSlmForCausalLM
from mamba_slm.model.stack import LanguageModel
from mamba_slm.model.state import InferenceState
from mamba_slm.ops.kernels import without_kernels
from mamba_slm.ops.native.library import missing_for_native
from mamba_slm.ops.native.start import start_native_kernels
from mamba_slm.ops.ssd import SSD_BACKENDS

DECODED = 4
LogitsOf = Callable[[LanguageModel, Sequence[Tensor]], list[Tensor]]


@dataclass(frozen=True, kw_only=True)
class Path:
    """One way to compute the function."""

    name: str
    what: str
    """What is compared with the naive recurrence, in words for the table."""
    logits: LogitsOf
    layouts: tuple[str, ...] = tuple(CONFIGS)
    """The models it is compared on."""
    row: str = "model"
    dtype: str = "float32"
    """Row of the tolerance table."""
    gradients: bool = True
    gradient_lengths: tuple[int, ...] = LENGTHS
    """Fewer where a graph of hundreds of calls would take long; outputs are compared at all lengths."""
    surroundings: Callable[[], AbstractContextManager[object]] = nullcontext
    """Entered around the forward and backward pass."""
    model: Callable[[str], LanguageModel] = fresh_model
    """The model of a layout that `logits` gets."""
    weights: str = ""
    """Quantization whose values the definition computes with; "": none."""


def one_by_one(model: LanguageModel, sequences: Sequence[Tensor]) -> list[Tensor]:
    """Each sequence alone, in one call."""
    return [model(tokens[None])[0] for tokens in sequences]


def naive_recurrence(model: LanguageModel, sequences: Sequence[Tensor]) -> list[Tensor]:
    """The definition: no state, no padding, no packing, one token of the recurrence after another."""
    set_scan_backend(model, "reference")
    return one_by_one(model, sequences)


def scan_with(backend: str) -> LogitsOf:
    """Each sequence alone, on a named scan."""

    def logits(model: LanguageModel, sequences: Sequence[Tensor]) -> list[Tensor]:
        set_scan_backend(model, backend)
        return one_by_one(model, sequences)

    return logits


def in_pieces(model: LanguageModel, tokens: Tensor, cuts: Sequence[int]) -> Tensor:
    """Logits [t v] of one sequence read in pieces that end at `cuts`."""
    state = model.new_state(1)
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(tokens)}), len(tokens)]
    pieces = [model(tokens[None, a:b], state=state) for a, b in pairwise(edges)]
    return torch.cat(pieces, dim=1)[0]


def prefill_cut(model: LanguageModel, sequences: Sequence[Tensor]) -> list[Tensor]:
    """Cut after one token, around a chunk's edge, in the middle, and before the last token."""
    return [in_pieces(model, tokens, (1, 3, 62, 64, 65, 250, len(tokens) - 1)) for tokens in sequences]


def token_by_token(model: LanguageModel, sequences: Sequence[Tensor]) -> list[Tensor]:
    """Decoding."""
    return [in_pieces(model, tokens, range(len(tokens))) for tokens in sequences]


def by_the_compiled_step(model: LanguageModel, sequences: Sequence[Tensor]) -> list[Tensor]:
    """A prompt, then one token at a time as `--runtime compiled` does; every sequence is two rows of one batch."""
    runtime = CompiledRuntime(model.eval())
    found = []
    for tokens in sequences:
        state, cut = runtime.new_state(1), len(tokens) // 2
        read = [model(tokens[None, :cut], state=state)[0]] if cut else []
        state = state.fork(2)
        read += [runtime.next_logits(token.expand(2, 1), None, state)[1:] for token in tokens[cut:]]
        found.append(torch.cat(read))
    return found


def by_the_compiled_step_in_bf16(model: LanguageModel, sequences: Sequence[Tensor]) -> list[Tensor]:
    """The same with bf16 weights and cache."""
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(dtype_of(name, torch.bfloat16))
    return by_the_compiled_step(model, sequences)


def padded(model: LanguageModel, sequences: Sequence[Tensor], side: str) -> list[Tensor]:
    """All sequences as the rows of one batch."""
    tokens = pad_sequence(list(sequences), batch_first=True, padding_side=side)
    mask = pad_sequence([torch.ones_like(s, dtype=torch.bool) for s in sequences], batch_first=True, padding_side=side)
    logits = model(tokens, padding_mask=mask)
    return [row[real] for row, real in zip(logits, mask, strict=True)]


def continued_with_padding(
    model: LanguageModel,
    sequences: Sequence[Tensor],
    piece_lengths: Sequence[Sequence[int]],
    first_side: str = "left",
) -> list[Tensor]:
    """A batch that goes on from a state, each row by its own number of tokens per piece (which may be 0)."""
    state = model.new_state(len(sequences))
    rows = [tokens.split(list(lengths)) for tokens, lengths in zip(sequences, piece_lengths, strict=True)]
    found: list[list[Tensor]] = [[] for _ in sequences]
    for number, pieces in enumerate(zip(*rows, strict=True)):
        side = first_side if number == 0 else "right"
        tokens = pad_sequence(list(pieces), batch_first=True, padding_side=side)
        real = [torch.ones_like(piece, dtype=torch.bool) for piece in pieces]
        mask = pad_sequence(real, batch_first=True, padding_side=side)
        logits = model(tokens, padding_mask=mask, state=state)
        for row, (row_logits, row_mask) in enumerate(zip(logits, mask, strict=True)):
            found[row].append(row_logits[row_mask])
    return [torch.cat(pieces) for pieces in found]


def padded_continuation(model: LanguageModel, sequences: Sequence[Tensor]) -> list[Tensor]:
    """Three pieces: prompts padded on the left, then two padded on the right; some rows have nothing to read."""
    lengths = [(t - t // 2 - t // 3, t // 2, t // 3) for t in map(len, sequences)]
    return continued_with_padding(model, sequences, lengths)


def packed(model: LanguageModel, sequences: Sequence[Tensor]) -> list[Tensor]:
    """All sequences in one row, with document ids."""
    ids = torch.cat([torch.full_like(tokens, number) for number, tokens in enumerate(sequences)])
    logits = model(torch.cat(list(sequences))[None], document_ids=ids[None])[0]
    return list(logits.split([len(tokens) for tokens in sequences]))


def packed_and_padded(model: LanguageModel, sequences: Sequence[Tensor]) -> list[Tensor]:
    """Two rows of packed documents, the shorter one padded on the right."""
    rows = [list(sequences[::2]), list(sequences[1::2])]
    tokens = pad_sequence([torch.cat(row) for row in rows if row], batch_first=True)
    ids = [torch.cat([torch.full_like(s, number) for number, s in enumerate(row)]) for row in rows if row]
    mask = pad_sequence([torch.ones_like(row, dtype=torch.bool) for row in ids], batch_first=True)
    logits = model(tokens, document_ids=pad_sequence(ids, batch_first=True, padding_value=99), padding_mask=mask)
    found: list[Tensor] = [torch.empty(0)] * len(sequences)
    for row, members in enumerate(rows[: len(ids)]):
        real = logits[row][mask[row]]
        found[row::2] = list(real.split([len(s) for s in members]))
    return found


def with_gradient_checkpointing(model: LanguageModel, sequences: Sequence[Tensor]) -> list[Tensor]:
    """Activations recomputed in the backward pass."""
    model.gradient_checkpointing = True
    return one_by_one(model, sequences)


def forked_and_restored(model: LanguageModel, sequences: Sequence[Tensor]) -> list[Tensor]:
    """Read a part, go astray, come back, fork, drop and reorder rows, read the rest."""
    found = []
    for tokens in sequences:
        cut = max(1, len(tokens) // 2)
        state = model.new_state(1)
        first = model(tokens[None, :cut], state=state)
        snapshot = state.snapshot()
        with torch.no_grad():
            model(tokens.flip(0)[None], state=state)
        state.restore(snapshot)
        forks: InferenceState = state.fork(3).select(torch.tensor([2, 0]))
        rest = [
            model(tokens[None, i : i + 1].expand(2, 1), state=forks)[:1] for i in range(cut, min(cut + 5, len(tokens)))
        ]
        if cut + 5 < len(tokens):
            rest.append(model(tokens[None, cut + 5 :].expand(2, -1), state=forks)[1:])
        found.append(torch.cat([first, *rest], dim=1)[0])
    return found


def under_autocast(model: LanguageModel, sequences: Sequence[Tensor]) -> list[Tensor]:
    """Training in bf16: float32 weights, products in bf16."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return one_by_one(model, sequences)


def with_bf16_weights(model: LanguageModel, sequences: Sequence[Tensor]) -> list[Tensor]:
    """Inference in bf16: matrices in bf16, everything listed in KEPT_IN_FLOAT32 as it was."""
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(dtype_of(name, torch.bfloat16))
    return one_by_one(model, sequences)


def decoding_in_bf16(model: LanguageModel, sequences: Sequence[Tensor]) -> list[Tensor]:
    """The same, one token at a time, with a bf16 cache and float32 SSM states."""
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(dtype_of(name, torch.bfloat16))
    return [in_pieces(model, tokens, (len(tokens) // 2, *range(len(tokens) // 2, len(tokens)))) for tokens in sequences]


def wrapped_with_cache(model: LanguageModel, sequences: Sequence[Tensor]) -> list[Tensor]:
    """As `generate` of transformers calls it: left-padded prompts in one batch, then `DECODED` tokens per row."""
    wrapped = HybridSlmForCausalLM.from_language_model(model)
    long = [tokens for tokens in sequences if len(tokens) > DECODED]
    prompts = [tokens[:-DECODED] for tokens in long]
    tokens = pad_sequence(prompts, batch_first=True, padding_side="left")
    mask = pad_sequence([torch.ones_like(prompt) for prompt in prompts], batch_first=True, padding_side="left")
    out = wrapped(tokens, attention_mask=mask, use_cache=True)
    rows = [[logits[real.bool()]] for logits, real in zip(out.logits, mask, strict=True)]
    for step in range(-DECODED, 0):
        new = torch.stack([tokens[step] for tokens in long])[:, None]
        mask = torch.cat([mask, torch.ones_like(new)], dim=1)
        out = wrapped(new, attention_mask=mask, past_key_values=out.past_key_values, use_cache=True)
        for row, logits in zip(rows, out.logits, strict=True):
            row.append(logits)
    found = iter([torch.cat(row) for row in rows])
    return [next(found) if len(tokens) > DECODED else wrapped(tokens[None]).logits[0] for tokens in sequences]


def wrapped_and_flattened(model: LanguageModel, sequences: Sequence[Tensor]) -> list[Tensor]:
    """As transformers' and TRL's collators pack: one row, with positions that begin again."""
    wrapped = HybridSlmForCausalLM.from_language_model(model)
    positions = torch.cat([torch.arange(len(tokens)) for tokens in sequences])
    logits = wrapped(torch.cat(list(sequences))[None], position_ids=positions[None], use_cache=False).logits[0]
    return list(logits.split([len(tokens) for tokens in sequences]))


@contextmanager
def native_kernels() -> Iterator[None]:
    """Operations in the C++ of `ops/native`, as training and generation take them."""
    if missing := missing_for_native():
        pytest.skip(missing)
    with without_kernels():
        started = start_native_kernels()
        assert not started.left, started
        yield


@contextmanager
def reading() -> Iterator[None]:
    """The same where nothing needs a gradient."""
    with native_kernels(), torch.no_grad():
        yield


DEFINITION = Path(name="naive recurrence", what="the definition", logits=naive_recurrence)

OUR_PATHS: dict[str, Path] = {
    path.name: path
    for path in (
        *(
            Path(name=f"scan: {backend}", what=f"the `{backend}` scan, each sequence alone", logits=scan_with(backend))
            for backend in sorted(set(SSD_BACKENDS) - {"reference"})
        ),
        Path(
            name="prefill cut anywhere",
            what="a state carried over cuts after 1, 3, 62, 64, 65, 250 tokens and before the last",
            logits=prefill_cut,
        ),
        Path(
            name="one token at a time",
            what="the decoding step from the first token on",
            logits=token_by_token,
            gradient_lengths=LENGTHS[:4],
        ),
        *(
            Path(
                name=f"compiled decoding step{ending}",
                what=f"the second half of the tokens by the step in C++{what}, as one of two rows",
                logits=logits,
                dtype=dtype,
                gradients=False,
                surroundings=torch.no_grad,
            )
            for ending, what, logits, dtype in (
                ("", "", by_the_compiled_step, "float32"),
                (", bf16 weights", ", weights and cache in bf16", by_the_compiled_step_in_bf16, "bfloat16"),
            )
            if missing_for_native() is None
        ),
        Path(
            name="left-padded batch",
            what="all sequences in one batch, padded on the left",
            logits=lambda model, sequences: padded(model, sequences, "left"),
        ),
        Path(
            name="right-padded batch",
            what="all sequences in one batch, padded on the right",
            logits=lambda model, sequences: padded(model, sequences, "right"),
        ),
        Path(
            name="padded continuation",
            what="a batch read in three pieces, left-padded, then twice right-padded from the state",
            logits=padded_continuation,
        ),
        Path(name="packed documents", what="all sequences in one row with document ids", logits=packed),
        Path(
            name="packed and padded",
            what="two rows of packed documents of different length",
            logits=packed_and_padded,
        ),
        Path(
            name="gradient checkpointing",
            what="activations recomputed in the backward pass",
            logits=with_gradient_checkpointing,
        ),
        Path(
            name="state forked and restored",
            what="snapshot, other tokens, restore, fork, select, then the rest",
            logits=forked_and_restored,
        ),
        Path(
            name="as a model of transformers",
            what=f"left-padded prompts in one batch, then {DECODED} tokens one at a time with its `DynamicCache`",
            logits=wrapped_with_cache,
            gradient_lengths=LENGTHS[1:4],
        ),
        Path(
            name="flattened for transformers",
            what="all sequences in one row with `position_ids` that begin again",
            logits=wrapped_and_flattened,
        ),
        Path(
            name="bf16 autocast",
            what="float32 weights, matrix products in bf16",
            logits=under_autocast,
            dtype="bfloat16",
        ),
        Path(
            name="bf16 weights",
            what="matrices stored in bf16; SSM parameters, convolution and norms float32",
            logits=with_bf16_weights,
            dtype="bfloat16",
        ),
        Path(
            name="bf16 weights, decoding",
            what="the same with a bf16 cache, the second half one token at a time",
            logits=decoding_in_bf16,
            gradient_lengths=LENGTHS[:4],
            dtype="bfloat16",
        ),
        *(
            Path(
                name=f"native kernels, {name}",
                what=f"operations in C++ compiled for this CPU; {what}",
                logits=logits,
                layouts=tuple(KERNEL_CONFIGS),
                dtype=dtype,
                gradients=gradients,
                surroundings=surroundings,
            )
            for name, what, logits, dtype, gradients, surroundings in (
                ("alone", "each sequence in one call", one_by_one, "float32", True, native_kernels),
                ("packed", "all sequences in one row with document ids", packed, "float32", True, native_kernels),
                ("padded", "two rows of packed documents, padded", packed_and_padded, "float32", True, native_kernels),
                ("cut", "a state carried over cuts", prefill_cut, "float32", True, native_kernels),
                ("reading", "a state carried over cuts, without gradients", prefill_cut, "float32", False, reading),
                ("bf16", "float32 weights, products in bf16", under_autocast, "bfloat16", True, native_kernels),
                ("bf16 weights", "matrices stored in bf16", with_bf16_weights, "bfloat16", True, native_kernels),
            )
        ),
    )
}
