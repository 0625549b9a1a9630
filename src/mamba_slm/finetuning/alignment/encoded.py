"""Preferences, labelled answers and prompts as token ids, through the chat template of the model.

The prompt is rendered as the model will see it when it answers, so that an answer begins where generation begins. What
stands in a message never becomes a special token (`text/chat.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.generation.speculative.proposals import common_length
from mamba_slm.text.chat import CHATML_TEMPLATE, Message, render_chat
from mamba_slm.text.tokenizer import Tokenizer

TooLong = Literal["drop", "cut", "refuse"]
Item = TypeVar("Item")
Source = TypeVar("Source")


class Preferred(Protocol):
    """What `data.conversations` calls a `Preference`."""

    @property
    def prompt(self) -> tuple[Message, ...]: ...
    @property
    def chosen(self) -> tuple[Message, ...]: ...
    @property
    def rejected(self) -> tuple[Message, ...]: ...
    @property
    def origin(self) -> str: ...


class Judged(Protocol):
    """What `data.conversations` calls `Labelled`."""

    @property
    def prompt(self) -> tuple[Message, ...]: ...
    @property
    def completion(self) -> tuple[Message, ...]: ...
    @property
    def is_good(self) -> bool: ...
    @property
    def origin(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class EncodedAnswer:
    """A prompt and what was answered."""

    prompt: tuple[int, ...]
    """Tokens up to where the answer begins."""

    completion: tuple[int, ...]
    """Tokens of the answer, the one that ends it included; of a dialogue, what lies between answers, too."""

    trained: tuple[bool, ...]
    """For each token of `completion`, whether the model must produce it."""

    @property
    def tokens(self) -> tuple[int, ...]:
        """Prompt and answer."""
        return self.prompt + self.completion

    def cut(self, num_tokens: int) -> EncodedAnswer:
        """The first so many tokens."""
        left = max(0, num_tokens - len(self.prompt))
        return EncodedAnswer(
            prompt=self.prompt[:num_tokens], completion=self.completion[:left], trained=self.trained[:left]
        )


@dataclass(frozen=True, kw_only=True)
class EncodedPair:
    """Two answers to one prompt."""

    chosen: EncodedAnswer
    rejected: EncodedAnswer
    origin: str


@dataclass(frozen=True, kw_only=True)
class EncodedLabelled:
    """An answer and whether it is good."""

    answer: EncodedAnswer
    is_good: bool
    origin: str


@dataclass(frozen=True)
class EncodedItems(Generic[Item]):
    """What came of a list, and what did not."""

    items: tuple[Item, ...]
    dropped: int
    """Too long for the context."""
    cut: int
    """Too long, and shortened at their end."""
    unusable: tuple[tuple[str, str], ...]
    """Origin and reason of what cannot be rendered, or has nothing to learn."""

    def __str__(self) -> str:
        """For people."""
        parts = [f"{len(self.items)} usable"]
        parts += [f"{self.dropped} longer than the context and dropped"] if self.dropped else []
        parts += [f"{self.cut} longer than the context and cut"] if self.cut else []
        parts += [f"{len(self.unusable)} unusable, such as {': '.join(self.unusable[0])}"] if self.unusable else []
        return ", ".join(parts)


def encode_answer(
    prompt: Sequence[Message], completion: Sequence[Message], tokenizer: Tokenizer, *, template: str = CHATML_TEMPLATE
) -> EncodedAnswer:
    """Tokens of a prompt and of an answer to it.

    Where the template marks no answers (`{% generation %}`), all of the completion is one.

    Raises:
        DataError: nothing to learn, an answer of several messages under a template that does not mark them, or what
            `render_chat` refuses.
    """
    whole = render_chat([*prompt, *completion], tokenizer, template=template)
    asked = render_chat(prompt, tokenizer, template=template, add_generation_prompt=True).ids if prompt else []
    begin = common_length(asked, whole.ids)
    ids, trained = whole.ids[begin:], whole.loss_mask[begin:]
    if not any(whole.loss_mask):
        if len(completion) != 1:
            raise DataError(
                "an answer of several messages needs a template that marks the model's own",
                hint="put {% generation %} … {% endgeneration %} around answers in the chat template",
            )
        trained = [True] * len(ids)
    end = max((place for place, is_trained in enumerate(trained, start=1) if is_trained), default=0)
    if not end or not any(str(message["content"]).strip() for message in completion):
        raise DataError("the answer is empty")
    return EncodedAnswer(prompt=tuple(whole.ids[:begin]), completion=tuple(ids[:end]), trained=tuple(trained[:end]))


def encode_pairs(
    preferences: Iterable[Preferred],
    tokenizer: Tokenizer,
    *,
    template: str = CHATML_TEMPLATE,
    context_tokens: int,
    too_long: TooLong = "drop",
) -> EncodedItems[EncodedPair]:
    """Pairs of answers as tokens; one whose answers are equal teaches nothing and is unusable.

    Raises:
        DataError: too long, and `too_long` is "refuse".
    """

    def encode(each: Preferred) -> list[EncodedAnswer]:
        answers = [
            encode_answer(each.prompt, completion, tokenizer, template=template)
            for completion in (each.chosen, each.rejected)
        ]
        if answers[0].tokens == answers[1].tokens:
            raise DataError("both answers are the same")
        return answers

    def build(each: Preferred, answers: list[EncodedAnswer]) -> EncodedPair:
        return EncodedPair(chosen=answers[0], rejected=answers[1], origin=each.origin)

    return encoded(preferences, encode, build, context_tokens=context_tokens, too_long=too_long)


def encode_labelled(
    labelled: Iterable[Judged],
    tokenizer: Tokenizer,
    *,
    template: str = CHATML_TEMPLATE,
    context_tokens: int,
    too_long: TooLong = "drop",
) -> EncodedItems[EncodedLabelled]:
    """Labelled answers as tokens.

    Raises:
        DataError: too long, and `too_long` is "refuse".
    """

    def encode(each: Judged) -> list[EncodedAnswer]:
        return [encode_answer(each.prompt, each.completion, tokenizer, template=template)]

    def build(each: Judged, answers: list[EncodedAnswer]) -> EncodedLabelled:
        return EncodedLabelled(answer=answers[0], is_good=each.is_good, origin=each.origin)

    return encoded(labelled, encode, build, context_tokens=context_tokens, too_long=too_long)


def encoded(
    sources: Iterable[Any],
    encode: Callable[[Any], list[EncodedAnswer]],
    build: Callable[[Any, list[EncodedAnswer]], Item],
    *,
    context_tokens: int,
    too_long: TooLong,
) -> EncodedItems[Item]:
    """Encode all, and deal with what is too long: an answer of which nothing would be left is dropped in any case."""
    if context_tokens < 2:
        raise ConfigError(f"the context must have room for a prompt and an answer, got {context_tokens} tokens")
    items: list[Item] = []
    unusable: list[tuple[str, str]] = []
    dropped = cut = 0
    for source in sources:
        try:
            answers = encode(source)
        except DataError as error:
            unusable.append((source.origin, error.message))
            continue
        longest = max(len(answer.tokens) for answer in answers)
        if longest > context_tokens:
            if too_long == "refuse":
                raise DataError(
                    f"{source.origin} has {longest} tokens, the context is {context_tokens}",
                    hint="--too-long drop leaves such examples out, --too-long cut takes their beginning",
                )
            answers = [answer.cut(context_tokens) for answer in answers]
            if too_long == "drop" or not all(any(answer.trained) for answer in answers):
                dropped += 1
                continue
            cut += 1
        items.append(build(source, answers))
    return EncodedItems(tuple(items), dropped, cut, tuple(unusable))
