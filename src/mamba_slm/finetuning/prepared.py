"""From `--data` to rows of tokens: read, hold some out, choose the template, encode, pack."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.data.conversations.example import Conversation, Examples
from mamba_slm.data.conversations.read import read_conversations
from mamba_slm.finetuning.config import FinetuneConfig
from mamba_slm.finetuning.examples import Encoded, EncodedExample, encode_conversations
from mamba_slm.finetuning.holding_out import split_conversations
from mamba_slm.finetuning.packing import PackedRows, Row, packed_rows
from mamba_slm.finetuning.template import ChosenTemplate, choose_template
from mamba_slm.text.tokenizer import Tokenizer

MOST_CONTEXT = 1024
NUM_PROMPTS = 2


@dataclass(frozen=True, kw_only=True)
class PreparedExamples:
    """What is trained on, measured on and asked."""

    train: Encoded
    validation: Encoded | None
    template: ChosenTemplate
    questions: tuple[Conversation, ...]
    """Whose last answer the model is asked for in samples."""
    sources: tuple[tuple[str, Examples[Conversation]], ...]
    context_tokens: int

    @property
    def fingerprint(self) -> str:
        """Of the tokens that are trained on and their masks, in their order."""
        digest = hashlib.sha256()
        for example in self.train.examples:
            digest.update(repr((example.tokens, example.trained)).encode())
        return digest.hexdigest()

    def record(self) -> dict[str, Any]:
        """What data.json says."""
        text_bytes = sum(bytes_of(found.items) for _, found in self.sources)
        examples = sum(len(found) for _, found in self.sources)
        tokens = self.train.num_tokens + (self.validation.num_tokens if self.validation else 0)
        return {
            "sources": [
                {
                    "name": Path(name).name, "path": name, "weight": None, "documents": len(found),
                    "bytes": bytes_of(found.items), "tokens": round(tokens * len(found) / max(1, examples)),
                    "form": found.form, "left_out": len(found.problems),
                }
                for name, found in self.sources
            ],
            "held_out": {} if self.validation is None else amounts(self.validation),
            "trained": {
                **amounts(self.train), "too_long": len(self.train.long_origins), "learned": self.train.num_trained,
            },
            "template": self.template.reason,
            "fingerprint": self.fingerprint,
            "tokenizer": {
                "vocab_size": self.template.tokenizer.vocab_size,
                "bytes_per_token": text_bytes / max(1, tokens),
                "fingerprint": self.template.tokenizer.fingerprint,
            },
        }  # fmt: skip


def amounts(encoded: Encoded) -> dict[str, Any]:
    """How much it is."""
    return {"documents": len(encoded.examples), "tokens": encoded.num_tokens}


def bytes_of(conversations: Sequence[Conversation]) -> int:
    """UTF-8 bytes of what is said."""
    return sum(len(message["content"].encode()) for one in conversations for message in one.messages)


def prepare_examples(
    config: FinetuneConfig, folder: Path, *, max_context_tokens: int, say: Callable[[str], None]
) -> PreparedExamples:
    """Read and encode everything that a fine-tuning learns from and is measured on.

    Args:
        folder: of the model, with its tokenizer and chat template.
        max_context_tokens: of the model.
        say: hears what was read, what was left out and why.

    Raises:
        ConfigError: no data, or a context longer than the model's.
        DataError: nothing usable; see `read_conversations` and `encode_conversations`.
    """
    if not config.data:
        raise ConfigError("there is nothing to learn from", hint="add --data FILE, or a data set of the hub")
    context_tokens = config.context_tokens or min(MOST_CONTEXT, max_context_tokens)
    if context_tokens > max_context_tokens:
        raise ConfigError(
            f"context_tokens ({context_tokens:,}) is more than the model's context of {max_context_tokens:,}",
            hint=f"use --context-tokens {max_context_tokens}, or make it longer first: mamba-slm extend",
        )
    template = choose_template(folder, Tokenizer.load(folder), config.template)
    say(str(template))

    def read(source: str) -> Examples[Conversation]:
        return read_conversations(source, form=config.form, split=config.split, limit=config.limit, say=say)

    def encode(conversations: Sequence[Conversation], say: Callable[[str], None] = say) -> Encoded:
        return encode_conversations(
            conversations,
            template.tokenizer,
            template.text,
            context_tokens=context_tokens,
            train_on=config.train_on,
            too_long=config.too_long,
            say=say,
        )

    sources = [(source, read(source)) for source in config.data]
    train = [one for _, found in sources for one in found.items]
    if config.validation is not None:
        held_out = list(read(config.validation).items)
    else:
        train, held_out = split_conversations(train, config.validation_share)
        if held_out:
            say(f"held out {len(held_out):,} of {len(train) + len(held_out):,} examples, by the hash of their content")
    encoded = encode(train)
    return PreparedExamples(
        train=encoded,
        validation=encoded_if_any(held_out, encode, say),
        template=template,
        questions=tuple(held_out[:NUM_PROMPTS] or train[:NUM_PROMPTS]),
        sources=tuple(sources),
        context_tokens=context_tokens,
    )


def encoded_if_any(
    held_out: Sequence[Conversation], encode: Callable[..., Encoded], say: Callable[[str], None]
) -> Encoded | None:
    """The held-out examples; None, which is said, where none of them can be used."""
    if not held_out:
        return None
    try:
        return encode(held_out, lambda line: say(f"held out, to measure: {line}"))
    except DataError as error:
        say(f"no validation: {error.message}")
        return None


def rows_of(
    examples: tuple[EncodedExample, ...], config: FinetuneConfig, context_tokens: int
) -> PackedRows | tuple[EncodedExample, ...]:
    """The rows of a Trainer: packed, or an example each."""
    return packed_rows(examples, row_tokens=context_tokens, seed=config.seed) if config.packing else examples


def tokens_of(row: Row | EncodedExample) -> int:
    """How many a row holds."""
    return sum(len(one.tokens) for one in row) if isinstance(row, tuple) else len(row.tokens)
