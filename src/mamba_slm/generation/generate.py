"""The decode loop: prefill a batch of prompts, then one token per row and step.

Letters: `b` rows, `t` time, `v` vocabulary.

Prompts of different lengths are padded on the right and masked, which lets a long batch be prefilled in pieces; the
first new token of a row comes from its own last position. A row that is done leaves the batch. What a row returns does
not depend on its neighbours, except for rounding.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.runtime import Runtime, RuntimeState, as_runtime
from mamba_slm.generation.sampling import Sampler, row_generators
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.stack import LanguageModel

PREFILL_PIECE_TOKENS = 2048  # bounds the memory of a long prompt's activations; the result does not depend on it

FinishReason = Literal["eos", "stop_token", "stop_string", "length", "context"]
"""Why a row ended: the end token, another stop token, a stop string, max_new_tokens, the model's context is full."""


@dataclass(frozen=True)
class TokenEvent:
    """One new token of one row."""

    row: int
    """Prompt i with n samples per prompt has the rows i * n ... i * n + n - 1."""
    token: int
    finish_reason: FinishReason | None
    """Set with the last token of the row. An `eos` or `stop_token` is delivered, too, as this last token."""


@dataclass
class Timing:
    """Work done and seconds spent by the model and the sampler, the consumer's time left out."""

    prefill_tokens: int = 0
    """Prompt tokens that went through the model, padding left out; a prompt with several samples counts once."""
    prefill_seconds: float = 0.0
    decode_tokens: int = 0
    """Tokens that went through the model one at a time; the first new token of a row comes from the prefill."""
    decode_seconds: float = 0.0

    @property
    def prefill_tokens_per_second(self) -> float:
        """0 when nothing was measured."""
        return self.prefill_tokens / self.prefill_seconds if self.prefill_seconds else 0.0

    @property
    def decode_tokens_per_second(self) -> float:
        """Over all rows; 0 when nothing was measured."""
        return self.decode_tokens / self.decode_seconds if self.decode_seconds else 0.0

    def add(self, other: Timing) -> None:
        """Add the work of another call."""
        self.prefill_tokens += other.prefill_tokens
        self.prefill_seconds += other.prefill_seconds
        self.decode_tokens += other.decode_tokens
        self.decode_seconds += other.decode_seconds


@dataclass(frozen=True)
class Completion:
    """What one row returned."""

    tokens: tuple[int, ...]
    """New tokens, without the end or stop token that ended them."""
    finish_reason: FinishReason
    prompt_tokens: int


@dataclass(frozen=True)
class GenerationResult:
    """All rows of one call, in the order of the prompts, and what they cost together."""

    completions: tuple[Completion, ...]
    timing: Timing


class TokenStream:
    """Iterate once to get `TokenEvent`s as they are made; see `stream_tokens`."""

    def __init__(
        self,
        runtime: Runtime[Any],
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        sampler: Sampler,
        eos_id: int | None,
        stop_ids: frozenset[int],
        seed: int,
        samples_per_prompt: int,
        state: RuntimeState | None,
    ):
        if samples_per_prompt < 1:
            raise ConfigError(f"the number of samples per prompt must be at least 1, got {samples_per_prompt}")
        earlier = [0] * len(prompts) if state is None else state.num_tokens.tolist()
        check_prompts(runtime.config, prompts, earlier_tokens=earlier, max_new_tokens=max_new_tokens)
        self.timing = Timing()
        self._runtime = runtime
        self._prompts = [list(prompt) for prompt in prompts]
        self._max_new_tokens = max_new_tokens
        self._sampler = sampler
        self._eos_id = eos_id
        self._stop_ids = stop_ids
        self._samples_per_prompt = samples_per_prompt
        self._generators = row_generators(seed, self.num_rows)
        self._state = state if state is not None else runtime.new_state(len(prompts))
        self._room = [  # new tokens until the context is full, by row
            runtime.config.max_context_tokens - before - len(prompt)
            for before, prompt in zip(earlier, prompts, strict=True)
            for _ in range(samples_per_prompt)
        ]
        self._dropped: set[int] = set()

    @property
    def num_rows(self) -> int:
        """Prompts times samples per prompt."""
        return len(self._prompts) * self._samples_per_prompt

    def stop_row(self, row: int) -> None:
        """Make no more tokens for `row`: its consumer found a stop string."""
        self._dropped.add(row)

    def __iter__(self) -> Iterator[TokenEvent]:
        started = time.perf_counter()
        logits, seen = self._prefill()
        self.timing.prefill_tokens = sum(map(len, self._prompts))
        self.timing.prefill_seconds = time.perf_counter() - started

        rows = list(range(self.num_rows))
        for made in range(1, self._max_new_tokens + 1):
            started = time.perf_counter()
            tokens = self._sampler.sample(logits, [self._generators[row] for row in rows], seen=seen)
            events = [
                TokenEvent(row, token, self._finish_reason(row, token, made))
                for row, token in zip(rows, tokens.tolist(), strict=True)
            ]
            self.timing.decode_seconds += time.perf_counter() - started
            yield from events

            started = time.perf_counter()
            going = [
                place
                for place, event in enumerate(events)
                if event.finish_reason is None and event.row not in self._dropped
            ]
            if not going:
                return
            if len(going) < len(rows):
                rows = [rows[place] for place in going]
                kept = torch.tensor(going, device=tokens.device)
                tokens = tokens[kept]
                self._state = self._state.select(kept)
                seen = None if seen is None else seen[kept]
            if seen is not None:
                seen.scatter_(1, tokens[:, None], True)
            logits = self._runtime.next_logits(tokens[:, None], None, self._state)
            self.timing.decode_tokens += len(rows)
            self.timing.decode_seconds += time.perf_counter() - started

    def _finish_reason(self, row: int, token: int, made: int) -> FinishReason | None:
        if token == self._eos_id:
            return "eos"
        if token in self._stop_ids:
            return "stop_token"
        if made == self._max_new_tokens:
            return "length"
        return "context" if made == self._room[row] else None

    def _prefill(self) -> tuple[Tensor, Tensor | None]:
        """Logits after each prompt, and the tokens seen (only for a repetition penalty), one row per sample."""
        device = self._runtime.device
        tokens, mask = right_padded(self._prompts, device=device)
        is_padded = not bool(mask.all())
        last = mask.sum(dim=1) - 1  # [b] the last real position of each row
        logits = torch.zeros(len(self._prompts), self._runtime.config.vocab_size, device=device)
        for start in range(0, tokens.shape[1], PREFILL_PIECE_TOKENS):
            piece = slice(start, start + PREFILL_PIECE_TOKENS)
            read = self._runtime.next_logits(tokens[:, piece], mask[:, piece] if is_padded else None, self._state)
            ends = (last >= start) & (last < start + PREFILL_PIECE_TOKENS)
            logits[ends] = read[ends]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seen = None
        if self._sampler.repetition is not None:
            seen = torch.zeros(logits.shape, dtype=torch.bool, device=device)
            for row, prompt in enumerate(self._prompts):
                seen[row, torch.tensor(prompt, device=device)] = True
        if self._samples_per_prompt > 1:
            self._state = self._state.fork(self._samples_per_prompt)
            logits = logits.repeat_interleave(self._samples_per_prompt, dim=0)
            seen = None if seen is None else seen.repeat_interleave(self._samples_per_prompt, dim=0)
        return logits, seen


def stream_tokens(
    model: LanguageModel | Runtime[Any],
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    sampler: Sampler | None = None,
    eos_id: int | None = None,
    stop_ids: Sequence[int] = (),
    seed: int = 0,
    samples_per_prompt: int = 1,
    state: RuntimeState | None = None,
) -> TokenStream:
    """Generate from a batch of prompts, delivering each token when it is made.

    Args:
        model: on any device, or a runtime that has one.
        prompts: token ids, at least one per prompt, lengths may differ.
        max_new_tokens: at most so many new tokens per row.
        sampler: None is greedy.
        eos_id: token that ends a row; None: none does.
        stop_ids: more tokens that end a row.
        seed: of the draws; a row's draws depend on the seed and the row's number only.
        samples_per_prompt: rows per prompt; the prompt is prefilled once.
        state: of the same runtime: what has been read before, one row per prompt; advanced in place. None starts
            anew. After the stream ends, the state holds everything but the last token of the row (with one row only:
            rows that end are dropped from larger states). Tokens read before do not count for a repetition penalty.

    Returns:
        A `TokenStream`; its `timing` is complete when the iteration ends.

    Raises:
        ConfigError: an empty prompt, a token outside the vocabulary, or no room left in the model's context.
    """
    return TokenStream(
        as_runtime(model),
        prompts,
        max_new_tokens=max_new_tokens,
        sampler=sampler or Sampler.greedy(),
        eos_id=eos_id,
        stop_ids=frozenset(stop_ids),
        seed=seed,
        samples_per_prompt=samples_per_prompt,
        state=state,
    )


def generate(
    model: LanguageModel | Runtime[Any],
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    sampler: Sampler | None = None,
    eos_id: int | None = None,
    stop_ids: Sequence[int] = (),
    seed: int = 0,
    samples_per_prompt: int = 1,
) -> GenerationResult:
    """Run `stream_tokens` to its end. Arguments and errors are the same."""
    stream = stream_tokens(
        model,
        prompts,
        max_new_tokens=max_new_tokens,
        sampler=sampler,
        eos_id=eos_id,
        stop_ids=stop_ids,
        seed=seed,
        samples_per_prompt=samples_per_prompt,
    )
    tokens: list[list[int]] = [[] for _ in range(stream.num_rows)]
    reasons: list[FinishReason] = ["length"] * stream.num_rows
    for event in stream:
        if event.finish_reason not in ("eos", "stop_token"):
            tokens[event.row].append(event.token)
        reasons[event.row] = event.finish_reason or reasons[event.row]
    lengths = [len(prompt) for prompt in prompts for _ in range(samples_per_prompt)]
    completions = tuple(map(Completion, map(tuple, tokens), reasons, lengths))
    return GenerationResult(completions, stream.timing)


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
