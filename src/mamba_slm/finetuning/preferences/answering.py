"""Two answers to each prompt, from two models or twice from one, as pairs to be rated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.generation.conversation.turns import end_of_turn
from mamba_slm.generation.generate import stream_tokens
from mamba_slm.generation.loading import LoadedModel
from mamba_slm.generation.runtime import Runtime
from mamba_slm.generation.sampling import Sampler
from mamba_slm.generation.text import collect_texts, prompt_tokens, stream_text
from mamba_slm.runs.preferences.rows import Answer, Message, Pair
from mamba_slm.text.chat import render_chat
from mamba_slm.text.chat_template import read_chat_template
from mamba_slm.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class AnswerSettings:
    """How answers are drawn."""

    max_new_tokens: int = 256
    """Longest answer."""

    temperature: float = 0.8
    """0 is greedy, which makes both answers of one model the same."""

    top_p: float | None = 0.95
    """Draw among the fewest tokens of this mass."""

    seed: int = 0
    """Of the draws."""

    batch_rows: int = 16
    """Prompts answered at the same time."""

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "batch_rows"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        _ = self.sampler  # which refuses what is out of range

    @property
    def sampler(self) -> Sampler:
        """How the next token is drawn."""
        return Sampler.from_settings(temperature=self.temperature, top_p=self.top_p)


@dataclass(frozen=True)
class Prompted:
    """A prompt and where it came from."""

    messages: tuple[Message, ...]
    origin: str


class Answerer:
    """A model that answers conversations: through its chat template, or by going on with the text of one message."""

    def __init__(self, name: str, runtime: Runtime[Any], tokenizer: Tokenizer, template: str | None):
        """
        Args:
            name: as the user named it.
            template: Jinja; None for a model that knows documents only.
        """
        self.name, self.runtime, self.tokenizer, self.template = name, runtime, tokenizer, template
        self.stop_ids: tuple[int, ...] = ()
        if template is not None:
            self.stop_ids = (end_of_turn(lambda messages, open_reply: self.rendered(messages, open_reply), tokenizer),)

    @classmethod
    def of(cls, name: str, loaded: LoadedModel) -> Answerer:
        """A model of `generation.loading.load`."""
        return cls(name, loaded.runtime, loaded.tokenizer, read_chat_template(loaded.folder))

    @property
    def reason(self) -> str:
        """How this model is asked, for the user."""
        if self.template is None:
            return f"{self.name} has no chat template: it continues the text of each prompt"
        return f"{self.name} answers through its chat template"

    def rendered(self, messages: Sequence[Message], open_reply: bool) -> list[int]:
        """Token ids of a conversation."""
        assert self.template is not None
        return render_chat(messages, self.tokenizer, add_generation_prompt=open_reply, template=self.template).ids

    def tokens_of(self, prompt: Prompted) -> list[int]:
        """What the model reads before it answers.

        Raises:
            DataError: several messages, but no template.
        """
        if self.template is not None:
            return self.rendered(prompt.messages, True)
        if len(prompt.messages) != 1:
            raise DataError(
                f"{prompt.origin} has {len(prompt.messages)} messages, and {self.name} has no chat template",
                hint="use a model that was fine-tuned for chat, or prompts of one message",
            )
        return prompt_tokens(self.tokenizer, str(prompt.messages[0]["content"]))

    def has_room(self, prompt: Prompted) -> bool:
        """Whether at least one new token fits behind the prompt."""
        return len(self.tokens_of(prompt)) < self.runtime.config.max_context_tokens

    def answers(
        self, prompts: Sequence[Prompted], settings: AnswerSettings, *, samples: int, first_row: int, seed: int
    ) -> list[str]:
        """`samples` answers to each prompt, those of one prompt in a row."""
        stream = stream_tokens(
            self.runtime,
            [self.tokens_of(prompt) for prompt in prompts],
            max_new_tokens=settings.max_new_tokens,
            sampler=settings.sampler,
            eos_id=self.tokenizer.eos_id,
            stop_ids=self.stop_ids,
            seed=seed,
            samples_per_prompt=samples,
            first_row=first_row,
        )
        made = collect_texts(stream_text(stream, self.tokenizer), num_rows=stream.num_rows)
        return [completion.text for completion in made]


@dataclass
class Answered:
    """What became of the prompts so far."""

    pairs: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Reason → prompts."""


def answer_pairs(
    answerers: Sequence[Answerer], prompts: Sequence[Prompted], settings: AnswerSettings, answered: Answered
) -> Iterator[list[Pair]]:
    """Pairs batch by batch: of two models one answer each, of one model two.

    Prompts that leave no room in a context, and pairs of equal answers, are left out and counted in `answered`.

    Raises:
        ConfigError: no model or more than two; one model whose answers are always the same.
        DataError: see `Answerer.tokens_of`.
    """
    if not 1 <= len(answerers) <= 2:
        raise ConfigError(f"one or two models answer, got {len(answerers)}")
    if len(answerers) == 1 and settings.temperature == 0:
        raise ConfigError(
            "one model at temperature 0 answers the same twice", hint="raise --temperature, or name a second --model"
        )
    roomy = [prompt for prompt in prompts if all(answerer.has_room(prompt) for answerer in answerers)]
    answered.left_out["longer than the context"] += len(prompts) - len(roomy)
    for start in range(0, len(roomy), settings.batch_rows):
        batch = roomy[start : start + settings.batch_rows]
        if len(answerers) == 1:
            both = answerers[0].answers(batch, settings, samples=2, first_row=2 * start, seed=settings.seed)
            columns = [both[0::2], both[1::2]]
        else:  # each with draws of its own: a model against itself would say the same twice
            columns = [
                answerer.answers(batch, settings, samples=1, first_row=start, seed=settings.seed + number)
                for number, answerer in enumerate(answerers)
            ]
        names = [answerers[0].name, answerers[-1].name]
        pairs = []
        for prompt, first, second in zip(batch, *columns, strict=True):
            if first.strip() == second.strip():
                answered.left_out["both answers the same"] += 1
                continue
            answers = Answer(first, names[0]), Answer(second, names[1])
            pairs.append(Pair(prompt.messages, answers, prompt.origin))
        answered.pairs += len(pairs)
        yield pairs
