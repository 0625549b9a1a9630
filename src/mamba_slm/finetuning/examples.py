"""Conversations as token ids, and which of them are learned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, get_args

from mamba_slm.core.errors import ConfigError, DataError, UnknownNameError
from mamba_slm.data.conversations.example import Conversation
from mamba_slm.text.chat import render_chat
from mamba_slm.text.tokenizer import Tokenizer

TrainOn = Literal["answers", "last-answer", "all"]
TooLong = Literal["drop", "cut", "refuse"]
SHOWN_PLACES = 3


@dataclass(frozen=True)
class EncodedExample:
    """One example."""

    tokens: tuple[int, ...]
    """[t] ids."""
    trained: tuple[bool, ...]
    """[t] True where the model learns to say this token; never the first, for nothing comes before it."""
    origin: str

    def __post_init__(self) -> None:
        assert len(self.tokens) == len(self.trained)
        assert not any(self.trained[:1])

    @property
    def num_trained(self) -> int:
        """How many tokens are learned."""
        return sum(self.trained)


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Examples that fit, and what became of the others."""

    examples: tuple[EncodedExample, ...]
    context_tokens: int
    """Most tokens that an example may have."""
    train_on: TrainOn
    too_long: TooLong
    """What was done with longer ones."""
    long_origins: tuple[str, ...] = ()
    """Where those stand that are longer than the context."""
    longest_tokens: int = 0
    """Of all, before any was cut."""
    untrained_origins: tuple[str, ...] = ()
    """Where those stand that were left out because nothing in them is learned: a cut took their answer."""

    @property
    def num_tokens(self) -> int:
        """Of all examples."""
        return sum(len(example.tokens) for example in self.examples)

    @property
    def num_trained(self) -> int:
        """Tokens that are learned."""
        return sum(example.num_trained for example in self.examples)

    def __str__(self) -> str:
        """What is said when they have been encoded."""
        share = self.num_trained / max(1, self.num_tokens)
        lines = [
            f"{len(self.examples):,} examples, {self.num_tokens:,} tokens, of which {self.num_trained:,} ({share:.0%}) "
            f"are learned ({self.train_on})"
        ]
        if self.long_origins:
            what = {"drop": "left out", "cut": "cut off at the end"}.get(self.too_long, self.too_long)
            lines.append(
                f"longer than the context of {self.context_tokens:,} tokens, {what}: {len(self.long_origins):,} "
                f"(the longest has {self.longest_tokens:,}): {some(self.long_origins)}"
            )
        if self.untrained_origins:
            count = len(self.untrained_origins)
            lines.append(f"nothing left to learn, left out: {count:,}: {some(self.untrained_origins)}")
        return "\n".join(lines)


def some(origins: Sequence[str]) -> str:
    """The first places of a list."""
    return "; ".join(origins[:SHOWN_PLACES]) + ("; …" if len(origins) > SHOWN_PLACES else "")


def encode_conversations(
    conversations: Iterable[Conversation],
    tokenizer: Tokenizer,
    template: str,
    *,
    context_tokens: int,
    train_on: TrainOn = "answers",
    too_long: TooLong = "drop",
    say: Callable[[str], None],
) -> Encoded:
    """Encode conversations through a chat template, and plain texts as documents.

    Args:
        template: Jinja, as in the model folder; see `text.chat.render_chat`.
        context_tokens: most tokens of an example.
        train_on: what is learned: all answers with the tokens that end them, the last one only, or every token.
        too_long: what happens to a longer example: it is left out, cut off at its end, or refused.
        say: hears how many there are, and what became of the others.

    Raises:
        DataError: a conversation that the template cannot express, one too long with "refuse", or none left.
        ConfigError: a context below 2 tokens.
    """
    for name, value, known in (("train_on", train_on, TrainOn), ("too_long", too_long, TooLong)):
        if value not in get_args(known):
            raise UnknownNameError(name, value, get_args(known))
    if context_tokens < 2:
        raise ConfigError(f"context_tokens must be at least 2, got {context_tokens}")
    examples: list[EncodedExample] = []
    long: list[str] = []
    untrained: list[str] = []
    longest = 0
    for conversation in conversations:
        example = encode_one(conversation, tokenizer, template, train_on)
        longest = max(longest, len(example.tokens))
        if len(example.tokens) > context_tokens:
            long.append(example.origin)
            if too_long == "refuse":
                raise DataError(
                    f"{example.origin} has {len(example.tokens):,} tokens, and the context {context_tokens:,}",
                    hint="leave such examples out with --too-long drop, or cut them off with --too-long cut",
                )
            if too_long == "drop":
                continue
            tokens, trained = example.tokens[:context_tokens], example.trained[:context_tokens]
            example = replace(example, tokens=tokens, trained=trained)
        if example.num_trained:
            examples.append(example)
        else:
            untrained.append(example.origin)
    encoded = Encoded(
        examples=tuple(examples),
        context_tokens=context_tokens,
        train_on=train_on,
        too_long=too_long,
        long_origins=tuple(long),
        longest_tokens=longest,
        untrained_origins=tuple(untrained),
    )
    if not examples:
        raise DataError(
            f"no example is left to learn from: {encoded}",
            hint="a longer context (--context-tokens), or --too-long cut"
            if long
            else "give conversations with answers",
        )
    say(str(encoded))
    return encoded


def encode_one(conversation: Conversation, tokenizer: Tokenizer, template: str, train_on: TrainOn) -> EncodedExample:
    """One example, of any length.

    Raises:
        DataError: see `render_chat`; begins with the conversation's origin.
    """
    if conversation.is_plain:
        text = conversation.messages[0]["content"]
        tokens = [tokenizer.bos_id, *tokenizer.encode(text), tokenizer.eos_id]
        trained = [True] * len(tokens)
    else:
        try:
            chat = render_chat(conversation.messages, tokenizer, template=template, find_answers=train_on != "all")
        except DataError as error:
            raise DataError(f"{conversation.origin}: {error.message}", hint=error.hint) from error
        tokens, trained = chat.ids, [True] * len(chat.ids) if train_on == "all" else chat.loss_mask
        if train_on == "last-answer":
            trained = last_run(trained)
    return EncodedExample(tuple(tokens), (False, *trained[1:]), conversation.origin)


def last_run(mask: Sequence[bool]) -> list[bool]:
    """Only the last run of True.

    >>> last_run([True, False, True, True, False])
    [False, False, True, True, False]
    """
    begins = [number for number, (before, now) in enumerate(pairwise([False, *mask])) if now and not before]
    last = begins[-1] if begins else len(mask)
    return [now and number >= last for number, now in enumerate(mask)]
