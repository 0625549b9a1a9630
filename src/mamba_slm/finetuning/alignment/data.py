"""Read, split and encode what an alignment learns from and is measured on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.data.conversations.example import Conversation, Labelled, Preference, Prompt
from mamba_slm.data.conversations.read import read_labelled, read_preferences, read_prompts
from mamba_slm.finetuning.alignment.config import AlignConfig
from mamba_slm.finetuning.alignment.encoded import (
    EncodedItems,
    EncodedLabelled,
    EncodedPair,
    encode_labelled,
    encode_pairs,
)
from mamba_slm.finetuning.template import ChosenTemplate, choose_template
from mamba_slm.text.chat import render_chat
from mamba_slm.text.tokenizer import Tokenizer

Say = Callable[[str], None]
MOST_CONTEXT = 1024
NUM_QUESTIONS = 3


@dataclass(frozen=True, kw_only=True)
class EncodedPrompt:
    """A prompt of GRPO."""

    tokens: tuple[int, ...]
    prompt: Prompt


@dataclass(frozen=True, kw_only=True)
class PreparedAlignment:
    """Everything that is read. Of the three kinds one is filled, by the objective."""

    template: ChosenTemplate
    context_tokens: int
    pairs: tuple[EncodedPair, ...] = ()
    held_out_pairs: tuple[EncodedPair, ...] = ()
    labelled: tuple[EncodedLabelled, ...] = ()
    held_out_labelled: tuple[EncodedLabelled, ...] = ()
    prompts: tuple[EncodedPrompt, ...] = ()
    held_out_prompts: tuple[EncodedPrompt, ...] = ()
    questions: tuple[Conversation, ...] = ()
    """What samples answer."""
    sources: tuple[tuple[str, int], ...] = ()
    """Each with the number of its examples."""
    left_out: str = ""
    """What could not be used, for the record."""

    @property
    def num_examples(self) -> int:
        """To train on."""
        return len(self.pairs) + len(self.labelled) + len(self.prompts)

    @property
    def mean_tokens(self) -> float:
        """Of an answer with its prompt, or of a prompt."""
        answers = [answer for pair in self.pairs for answer in (pair.chosen, pair.rejected)]
        answers += [each.answer for each in self.labelled]
        lengths = [len(answer.tokens) for answer in answers] + [len(each.tokens) for each in self.prompts]
        return sum(lengths) / max(1, len(lengths))

    @property
    def fingerprint(self) -> str:
        """A hash of all tokens in their order."""
        digest = hashlib.sha256(repr((self.pairs, self.labelled)).encode())
        digest.update(repr([each.tokens for each in self.prompts]).encode())
        return digest.hexdigest()

    def record(self) -> dict[str, Any]:
        """What data.json says."""
        held_out = len(self.held_out_pairs) + len(self.held_out_labelled) + len(self.held_out_prompts)
        return {
            "sources": [{"path": source, "examples": count} for source, count in self.sources],
            "train": {"documents": self.num_examples, "tokens": round(self.num_examples * self.mean_tokens)},
            "validation": {"documents": held_out},
            "left_out": self.left_out,
            "template": self.template.reason,
            "fingerprint": self.fingerprint,
            "tokenizer": {
                "vocab_size": self.template.tokenizer.vocab_size,
                "fingerprint": self.template.tokenizer.fingerprint,
            },
        }


def prepare_alignment(config: AlignConfig, folder: Path, *, max_context_tokens: int, say: Say) -> PreparedAlignment:
    """Read and encode, and hold some out.

    Args:
        folder: of the model, with its tokenizer and chat template.
        max_context_tokens: of the model.
        say: hears what was read, what was left out and why.

    Raises:
        ConfigError: no data, or a context longer than the model's.
        DataError: nothing usable.
    """
    if not config.data:
        raise ConfigError("there is nothing to align with", hint="add --data FILE, or --data prefs:NAME")
    context_tokens = config.context_tokens or min(MOST_CONTEXT, max_context_tokens)
    if context_tokens > max_context_tokens:
        raise ConfigError(
            f"context_tokens ({context_tokens:,}) is more than the model's context of {max_context_tokens:,}",
            hint=f"use --context-tokens {max_context_tokens}, or make it longer first: mamba-slm extend",
        )
    template = choose_template(folder, Tokenizer.load(folder), config.template)
    say(str(template))
    found = [(source, read(source, config, say)) for source in config.data]
    train: list[Any] = [item for _, items in found for item in items]
    if config.validation is not None:
        held_out: list[Any] = list(read(config.validation, config, say))
    else:
        train, held_out = split_by_prompt(train, config.validation_share)
        if held_out:
            say(f"held out {len(held_out):,} of {len(train) + len(held_out):,} examples, by the hash of their prompts")
    common: dict[str, Any] = {
        "template": template, "context_tokens": context_tokens,
        "sources": tuple((source, len(items)) for source, items in found),
        "questions": questions_of(held_out or train),
    }  # fmt: skip
    settings: dict[str, Any] = {
        "template": template.text, "context_tokens": context_tokens, "too_long": config.too_long,
    }  # fmt: skip
    if config.objective == "grpo":
        prompts, dropped = encode_prompts(train, template, context_tokens=context_tokens - 1)
        held, _ = encode_prompts(held_out, template, context_tokens=context_tokens - 1)
        said = f"{len(prompts)} prompts" + (f", {dropped} longer than the context and dropped" if dropped else "")
        say(said)
        require_some(prompts, said)
        return PreparedAlignment(prompts=prompts, held_out_prompts=held, left_out=said, **common)
    if config.objective == "kto":
        labelled = encode_labelled(train, template.tokenizer, **settings)
        tell(labelled, "answers", say)
        held_labelled = encode_labelled(held_out, template.tokenizer, **settings).items
        return PreparedAlignment(
            labelled=labelled.items, held_out_labelled=held_labelled, left_out=str(labelled), **common
        )
    pairs = encode_pairs(train, template.tokenizer, **settings)
    tell(pairs, "pairs", say)
    held_pairs = encode_pairs(held_out, template.tokenizer, **settings).items
    return PreparedAlignment(pairs=pairs.items, held_out_pairs=held_pairs, left_out=str(pairs), **common)


def tell(found: EncodedItems[Any], what: str, say: Say) -> None:
    """Say what came of the examples.

    Raises:
        DataError: nothing.
    """
    say(f"{what}: {found}")
    require_some(found.items, str(found))


def require_some(items: Sequence[Any], said: str) -> None:
    """Refuse to go on with nothing."""
    if not items:
        raise DataError(f"nothing is left to learn from: {said}", hint="--too-long cut, or a longer --context-tokens")


def read(source: str, config: AlignConfig, say: Say) -> Sequence[Preference | Labelled | Prompt]:
    """The examples of one source, by the objective.

    Raises:
        DataError: nothing usable.
    """
    how: dict[str, Any] = {"form": config.form, "split": config.split, "limit": config.limit, "say": say}
    if config.objective == "grpo":
        return read_prompts(source, **how).items
    return read_labelled(source, **how).items if config.objective == "kto" else read_preferences(source, **how).items


def split_by_prompt(items: Sequence[Any], share: float) -> tuple[list[Any], list[Any]]:
    """Training and held-out examples; those of one prompt stay together, so that nothing held out was seen.

    The prompts whose hashes are smallest are held out, at least one, until they have the `share` of the examples.

    Raises:
        DataError: nothing would be left for training.
    """
    if share == 0:
        return list(items), []
    by_prompt: dict[str, list[Any]] = {}
    for item in items:
        by_prompt.setdefault(prompt_digest(item), []).append(item)
    held: set[str] = set()
    count = 0
    for digest in sorted(by_prompt):
        if held and count >= round(share * len(items)):
            break
        held.add(digest)
        count += len(by_prompt[digest])
    if len(held) == len(by_prompt):
        raise DataError(
            f"{len(by_prompt)} prompts are too few to hold some out",
            hint="add --validation-share 0, or give held-out examples: --validation FILE",
        )
    train = [item for item in items if prompt_digest(item) not in held]
    return train, [item for item in items if prompt_digest(item) in held]


def prompt_digest(item: Any) -> str:
    """The hash of what was asked; of what was answered where nothing was asked."""
    asked = item.messages if isinstance(item, Prompt) else item.prompt or getattr(item, "chosen", ())
    said = [[message["role"], message["content"]] for message in asked]
    return hashlib.sha256(json.dumps(said, ensure_ascii=False).encode()).hexdigest()


def questions_of(items: Sequence[Any]) -> tuple[Conversation, ...]:
    """A few prompts with an answer, for samples."""
    found = []
    for item in items[:NUM_QUESTIONS]:
        if isinstance(item, Prompt):
            messages = (*item.messages, {"role": "assistant", "content": item.answer or "?"})
        else:
            messages = (*item.prompt, *(item.chosen if isinstance(item, Preference) else item.completion))
        found.append(Conversation(messages, item.origin))
    return tuple(found)


def encode_prompts(
    prompts: Sequence[Prompt], template: ChosenTemplate, *, context_tokens: int
) -> tuple[tuple[EncodedPrompt, ...], int]:
    """Prompts as the model sees them before it answers, and how many are too long."""
    found = []
    for prompt in prompts:
        rendered = render_chat(prompt.messages, template.tokenizer, template=template.text, add_generation_prompt=True)
        if len(rendered.ids) <= context_tokens:
            found.append(EncodedPrompt(tokens=tuple(rendered.ids), prompt=prompt))
    return tuple(found), len(prompts) - len(found)
