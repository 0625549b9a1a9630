"""Texts that follow prompts, as benchmarks ask for them: until a stop string, batched by length."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mamba_slm.core.errors import ConfigError
from mamba_slm.evaluation.harness.prefix_tree import WORTH_SHARING, common_prefix
from mamba_slm.generation.generate import stream_tokens
from mamba_slm.generation.prefill import prefill
from mamba_slm.generation.runtime import Runtime
from mamba_slm.generation.sampling import Sampler
from mamba_slm.generation.text import collect_texts, stream_text
from mamba_slm.text.tokenizer import IM_END, Tokenizer

BATCH_ROWS = 16
MOST_NEW_TOKENS = 256  # where a task does not say, as HFLM of lm-evaluation-harness
LENGTH_NAMES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
KNOWN = {*LENGTH_NAMES, "until", "do_sample", "temperature", "top_p", "top_k"}


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """How a task wants text to be made."""

    stops: tuple[str, ...] = ()
    """Strings that end a text; they are not part of it."""
    max_new_tokens: int = MOST_NEW_TOKENS
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float | None = None
    top_k: int | None = None

    @classmethod
    def from_harness(cls, settings: Mapping[str, Any]) -> GenerationSettings:
        """The `generation_kwargs` of a task.

        Raises:
            ConfigError: a setting that we do not know.
        """
        unknown = sorted(set(settings) - KNOWN)
        if unknown:
            raise ConfigError(
                f"the task asks for generation with {', '.join(unknown)}, which mamba-slm does not know",
                hint=f"known: {', '.join(sorted(KNOWN))}",
            )
        until = settings.get("until") or ()
        longest = next((settings[name] for name in LENGTH_NAMES if name in settings), MOST_NEW_TOKENS)
        sampled = settings.get("do_sample", float(settings.get("temperature", 0.0)) > 0)
        return cls(
            stops=(until,) if isinstance(until, str) else tuple(stop for stop in until if stop),
            max_new_tokens=int(longest),
            temperature=float(settings.get("temperature", 1.0)) if sampled else 0.0,
            top_p=settings.get("top_p") if sampled else None,
            top_k=settings.get("top_k") if sampled else None,
        )

    @property
    def sampler(self) -> Sampler:
        """What draws the tokens."""
        if self.temperature == 0:
            return Sampler.greedy()
        return Sampler.from_settings(temperature=self.temperature, top_p=self.top_p, top_k=self.top_k)


class Generator:
    """Continues prompts with one model."""

    def __init__(self, runtime: Runtime[Any], tokenizer: Tokenizer, *, max_tokens: int | None = None, seed: int = 0):
        self.runtime, self.tokenizer, self.seed = runtime, tokenizer, seed
        self.max_tokens = max_tokens or runtime.config.max_context_tokens
        end_of_turn = tokenizer.first_id_of([IM_END])
        self.stop_ids = [] if end_of_turn is None else [end_of_turn]
        self.generated_tokens = 0

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        settings: GenerationSettings,
        on_text: Callable[[int, str], None] = lambda number, text: None,
    ) -> list[str]:
        """Continue each prompt; what is too long is cut at its left, so that the new tokens have room.

        Args:
            on_text: told the number of each prompt with its text, batch by batch.

        Raises:
            ConfigError: the new tokens alone fill the context.
        """
        room = self.max_tokens - settings.max_new_tokens
        if room < 1:
            raise ConfigError(
                f"the task wants up to {settings.max_new_tokens} new tokens, and the model's context has only "
                f"{self.max_tokens}",
                hint="leave the task out, or use a model with a longer context",
            )
        cut = [list(prompt)[-room:] for prompt in prompts]
        order = sorted(range(len(cut)), key=lambda number: (-len(cut[number]), cut[number]))
        texts = [""] * len(cut)
        for start in range(0, len(order), BATCH_ROWS):
            numbers = order[start : start + BATCH_ROWS]
            found = self.batch([cut[number] for number in numbers], settings, first_row=start)
            for number, text in zip(numbers, found, strict=True):
                texts[number] = text
                on_text(number, text)
        return texts

    def batch(self, prompts: Sequence[list[int]], settings: GenerationSettings, *, first_row: int) -> list[str]:
        """Continue a batch, reading what its prompts begin with together only once."""
        first, last = min(prompts), max(prompts)
        shared = min(common_prefix(first, last), min(map(len, prompts)) - 1)
        state = None
        if len(prompts) > 1 and shared >= WORTH_SHARING:
            state = self.runtime.new_state(1)
            prefill(self.runtime, [first[:shared]], state)
            state = state.fork(len(prompts))
        stream = stream_tokens(
            self.runtime,
            [prompt[shared:] for prompt in prompts] if state is not None else prompts,
            max_new_tokens=settings.max_new_tokens,
            sampler=settings.sampler,
            eos_id=self.tokenizer.eos_id,
            stop_ids=self.stop_ids,
            seed=self.seed,
            state=state,
            first_row=first_row,
        )
        events = stream_text(stream, self.tokenizer, stops=settings.stops)
        found = collect_texts(events, num_rows=stream.num_rows)
        self.generated_tokens += sum(one.num_tokens for one in found)
        return [one.text for one in found]
