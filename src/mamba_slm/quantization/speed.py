"""How fast a quantized model is beside the original, measured in turns in one run: ratios, not promises."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from mamba_slm.generation.runtime import Runtime

ROUNDS = 5
DECODE_TOKENS = 32
PROMPT_TOKENS = 256


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Tokens per second of one sequence; medians over the rounds."""

    decode_before: float
    """One token at a time, the original."""
    decode: float
    prefill_before: float
    """Reading a prompt, the original."""
    prefill: float
    how: str
    """What was measured."""

    @property
    def decode_ratio(self) -> float:
        """Above 1: the quantized model is faster."""
        return self.decode / self.decode_before

    @property
    def prefill_ratio(self) -> float:
        """Above 1: the quantized model is faster."""
        return self.prefill / self.prefill_before

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "decode_ratio": self.decode_ratio, "prefill_ratio": self.prefill_ratio}


def measure_speed(
    before: Runtime[Any],
    after: Runtime[Any],
    *,
    rounds: int = ROUNDS,
    decode_tokens: int = DECODE_TOKENS,
    prompt_tokens: int = PROMPT_TOKENS,
    name_before: str = "the original",
    clock: Callable[[], float] = time.perf_counter,
) -> Speed:
    """Read a prompt of random tokens and go on from it, the two in turns; a first round warms up and does not count.

    Args:
        before, after: the original and the quantized model, with the same vocabulary.
        name_before: how the original runs, for `Speed.how`.
    """
    context = before.config.max_context_tokens
    decode_tokens = max(1, min(decode_tokens, context // 2))
    prompt_tokens = max(1, min(prompt_tokens, context - decode_tokens))
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(before.config.vocab_size, (1, prompt_tokens + decode_tokens), generator=generator)
    seconds: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds + 1):
        for name, runtime in (("before", before), ("after", after)):
            given = tokens.to(runtime.device)
            state = runtime.new_state(1)
            started = clock()
            float(runtime.next_logits(given[:, :prompt_tokens], None, state)[0, 0])
            read = clock()
            for place in range(prompt_tokens, prompt_tokens + decode_tokens):
                float(runtime.next_logits(given[:, place : place + 1], None, state)[0, 0])  # waits for a GPU
            ended = clock()
            if number:
                seconds.setdefault((name, "prefill"), []).append(read - started)
                seconds.setdefault((name, "decode"), []).append(ended - read)
    rate = {key: statistics.median(times) for key, times in seconds.items()}
    return Speed(
        decode_before=decode_tokens / rate["before", "decode"],
        decode=decode_tokens / rate["after", "decode"],
        prefill_before=prompt_tokens / rate["before", "prefill"],
        prefill=prompt_tokens / rate["after", "prefill"],
        how=f"one sequence, a prompt of {prompt_tokens} tokens and {decode_tokens} more one at a time, median of "
        f"{rounds} rounds in turns with {name_before}; {after.description}",
    )
