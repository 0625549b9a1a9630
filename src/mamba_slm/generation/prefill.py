"""Reading prompts: of different lengths in one batch, in pieces of bounded size.

Letters: `b` rows, `t` time, `v` vocabulary.

Prompts are padded on the right and masked, which lets a long batch be read in pieces; the first new token of a row
comes from its own last position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.runtime import Runtime, RuntimeState
from mamba_slm.model.config import ModelConfig

PREFILL_PIECE_TOKENS = 2048  # bounds the memory of a long prompt's activations; the result does not depend on it


def prefill(runtime: Runtime[Any], prompts: Sequence[Sequence[int]], state: RuntimeState) -> Tensor:
    """Read every prompt into `state`, one row each; the logits [b v] after each.

    A runtime's `prompt_reader`, such as a prompt cache, is asked first.
    """
    reader = runtime.prompt_reader
    logits = None if reader is None else reader.read(runtime, prompts, state)
    return read_pieces(runtime, prompts, state) if logits is None else logits


def read_pieces(runtime: Runtime[Any], prompts: Sequence[Sequence[int]], state: RuntimeState) -> Tensor:
    """`prefill` by the runtime alone."""
    tokens, mask = right_padded(prompts, device=runtime.device)
    is_padded = not bool(mask.all())
    last = mask.sum(dim=1) - 1  # [b] the last real position of each row
    logits = torch.zeros(len(prompts), runtime.config.vocab_size, device=runtime.device)
    for start in range(0, tokens.shape[1], PREFILL_PIECE_TOKENS):
        piece = slice(start, start + PREFILL_PIECE_TOKENS)
        read = runtime.next_logits(tokens[:, piece], mask[:, piece] if is_padded else None, state)
        ends = (last >= start) & (last < start + PREFILL_PIECE_TOKENS)
        logits[ends] = read[ends]
    if runtime.device.type == "cuda":
        torch.cuda.synchronize(runtime.device)
    return logits


def right_padded(prompts: Sequence[Sequence[int]], *, device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens [b t] int64, padded on the right with token 0, and the mask [b t], True where a token is real."""
    longest = max(map(len, prompts))
    tokens = torch.tensor([list(prompt) + [0] * (longest - len(prompt)) for prompt in prompts], device=device)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    return tokens, torch.arange(longest, device=device) < lengths[:, None]


def check_prompts(
    config: ModelConfig, prompts: Sequence[Sequence[int]], *, earlier_tokens: Sequence[int], max_new_tokens: int
) -> None:
    """Raise ConfigError for prompts that the model cannot continue; see `stream_tokens`.

    The limit holds for every position scheme: beyond it learned positions do not exist, rotary ones were never
    trained, and what the others do was never measured.
    """
    context, vocab_size = config.max_context_tokens, config.vocab_size
    if max_new_tokens < 1:
        raise ConfigError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    if not prompts:
        raise ConfigError("there is no prompt to continue")
    if len(earlier_tokens) != len(prompts):
        raise ConfigError(f"the state has {len(earlier_tokens)} rows, but there are {len(prompts)} prompts")
    for number, (prompt, before) in enumerate(zip(prompts, earlier_tokens, strict=True), start=1):
        which = f"prompt {number}" if len(prompts) > 1 else "the prompt"
        if not prompt:
            raise ConfigError(f"{which} has no tokens", hint="begin with the tokenizer's bos token")
        if not 0 <= min(prompt) <= max(prompt) < vocab_size:
            raise ConfigError(
                f"{which} holds token {max(prompt)}, but the model's vocabulary has {vocab_size} tokens",
                hint="the tokenizer does not belong to this model; use the tokenizer.json of the model's folder",
            )
        if before + len(prompt) >= context:
            total = f"{before:,} + {len(prompt):,}" if before else f"{len(prompt):,}"
            raise ConfigError(
                f"{which} has {total} tokens, which leaves no room in the model's context of {context:,} tokens",
                hint=f"shorten it by at least {before + len(prompt) - context + 1:,} tokens; nothing is cut silently",
            )
