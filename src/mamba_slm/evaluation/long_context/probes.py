"""Retrieval probes: does a model find again what it read long ago?

`needle`: a sentence with a pass key stands at some depth of a long text, and the text ends where the key must follow
(Mohtashami and Jaggi, "Landmark Attention", arXiv:2305.16300). Scored as a choice: the right key against nine others by
the probability of their tokens, so that a small model that cannot answer freely is measured, too; chance is one in ten.

`recall`: pairs of arbitrary tokens, then the keys again in another order; after each the right value must be the most
likely of all values (multi-query associative recall, Arora et al., "Zoology", arXiv:2312.04927). Chance is one in the
number of pairs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.prefill import prefill
from mamba_slm.generation.runtime import Runtime
from mamba_slm.text.tokenizer import Tokenizer

Task = Literal["needle", "recall"]
TASKS: tuple[Task, ...] = ("needle", "recall")
CHOICES = 10
NEEDLE = "The pass key is {key}. Remember it. {key} is the pass key."
QUESTION = " What is the pass key? The pass key is"
FILLER = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. "


@dataclass(frozen=True, kw_only=True)
class Found:
    """How often it was found again, of how many times."""

    task: Task
    tokens: int
    """Length of the text that was read."""
    depth: float | None
    """Where the needle stood, 0 beginning and 1 end; None for `recall`, which asks for all places."""
    right: int
    asked: int
    chance: float

    @property
    def share(self) -> float:
        """Right answers of all."""
        return self.right / self.asked

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "share": self.share}


def needle(
    runtime: Runtime[Any],
    tokenizer: Tokenizer,
    *,
    tokens: int,
    depth: float,
    times: int,
    seed: int = 0,
    filler: str = FILLER,
) -> Found:
    """Ask `times` times for a key at `depth` of a text of at most `tokens` tokens, question and key included.

    Args:
        filler: what the text is made of; repeated as often as needed.

    Raises:
        ConfigError: no room for needle and question.
    """
    source = random.Random(f"{seed} {tokens} {depth}")
    right = 0
    filling = tokenizer.encode(filler)
    question = tokenizer.encode(QUESTION, continues=True)
    for _ in range(times):
        keys = [f" {key}" for key in source.sample(range(1000, 10_000), CHOICES)]
        sentence = tokenizer.encode(" " + NEEDLE.format(key=keys[0].strip()) + " ", continues=True)
        answers = [tokenizer.encode(key, continues=True) for key in keys]
        room = tokens - 1 - len(sentence) - len(question) - max(map(len, answers))
        if room < 0:
            raise ConfigError(
                f"{tokens:,} tokens have no room for needle and question", hint=f"--lengths {tokens - room:,} or more"
            )
        hay = (filling * (room // len(filling) + 1))[:room]
        place = round(depth * room)
        prompt = [tokenizer.bos_id, *hay[:place], *sentence, *hay[place:], *question]
        right += best_answer(runtime, prompt, answers) == 0
    return Found(task="needle", tokens=tokens, depth=depth, right=right, asked=times, chance=1 / CHOICES)


def best_answer(runtime: Runtime[Any], prompt: Sequence[int], answers: Sequence[Sequence[int]]) -> int:
    """Index of the answer with the highest probability per token after the prompt, which is read once."""
    state = runtime.new_state(1)
    after = prefill(runtime, [list(prompt)], state)[0]
    scores = []
    for answer in answers:
        logits, fork, total = after, state.snapshot(), 0.0
        for number, token in enumerate(answer):
            total += float(logits.float().log_softmax(dim=-1)[token])
            if number + 1 < len(answer):
                logits = runtime.next_logits(torch.tensor([[token]], device=runtime.device), None, fork)[0]
        scores.append(total / len(answer))
    return max(range(len(scores)), key=scores.__getitem__)


def recall(runtime: Runtime[Any], tokenizer: Tokenizer, *, tokens: int, times: int, seed: int = 0) -> Found:
    """Ask for every value of tokens // 4 pairs, in a random order, `times` times.

    Raises:
        ConfigError: too short for two pairs, or more pairs than the vocabulary has tokens for.
    """
    pairs = (tokens - 1) // 4
    usable = [token for token in range(tokenizer.vocab_size) if token not in tokenizer.special_ids]
    if pairs < 2 or 2 * pairs > len(usable):
        raise ConfigError(
            f"{tokens:,} tokens are {pairs:,} pairs, and there must be 2 to {len(usable) // 2:,}",
            hint="choose --lengths between 9 and twice the vocabulary",
        )
    generator = torch.Generator().manual_seed(seed * 1_000_003 + tokens)
    right = 0
    for _ in range(times):
        chosen = torch.tensor(usable)[torch.randperm(len(usable), generator=generator)[: 2 * pairs]]
        keys, values = chosen[:pairs], chosen[pairs:]
        order = torch.randperm(pairs, generator=generator)
        told = torch.stack([keys, values], dim=1).flatten().tolist()
        state = runtime.new_state(1)
        prefill(runtime, [[tokenizer.bos_id, *told]], state)
        for index in order.tolist():
            right += recalled(runtime, state, keys[index], values, index)
    return Found(task="recall", tokens=tokens, depth=None, right=right, asked=times * pairs, chance=1 / pairs)


def recalled(runtime: Runtime[Any], state: Any, key: Tensor, values: Tensor, index: int) -> bool:
    """Whether the key brings its value back; both are read then, as in a text that answers rightly."""
    logits = runtime.next_logits(key[None, None].to(runtime.device), None, state)[0]
    runtime.next_logits(values[index][None, None].to(runtime.device), None, state)
    return int(logits[values.to(logits.device)].argmax()) == index


def probe(
    runtime: Runtime[Any],
    tokenizer: Tokenizer,
    *,
    tasks: Sequence[Task],
    lengths: Sequence[int],
    depths: Sequence[float],
    times: int,
    seed: int = 0,
    filler: str = FILLER,
    say: Callable[[str], None] = lambda text: None,
) -> list[Found]:
    """Every task at every length (and depth), shortest first.

    Raises:
        ConfigError: a length beyond the model's context, or too short for a task.
    """
    context = runtime.config.max_context_tokens
    if max(lengths) > context:
        raise ConfigError(
            f"{max(lengths):,} tokens are more than the model's context of {context:,}",
            hint="choose shorter --lengths, or stretch it: --context-tokens N",
        )
    found: list[Found] = []
    for tokens in sorted(lengths):
        if "needle" in tasks:
            for depth in depths:
                found.append(
                    needle(runtime, tokenizer, tokens=tokens, depth=depth, times=times, seed=seed, filler=filler)
                )
        if "recall" in tasks:
            found.append(recall(runtime, tokenizer, tokens=tokens, times=max(1, times // 4), seed=seed))
        for one in found:
            if one.tokens == tokens:
                where = "" if one.depth is None else f" at depth {one.depth:g}"
                say(f"{one.task}, {tokens:,} tokens{where}: {one.right} of {one.asked} (chance {one.chance:.1%})")
    return found
