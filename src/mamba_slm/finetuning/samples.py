"""What the model says to the same questions while it is tuned: rows of samples.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mamba_slm.data.conversations.example import Conversation
from mamba_slm.finetuning.template import ChosenTemplate
from mamba_slm.generation.generate import stream_tokens
from mamba_slm.generation.text import collect_texts, prompt_tokens, stream_text
from mamba_slm.text.chat import Message, render_chat

SAMPLE_TOKENS = 96
PLAIN_WORDS = 8


def make_sampler(
    template: ChosenTemplate, questions: Sequence[Conversation], prompts: Sequence[str], *, max_context_tokens: int
) -> Callable[[Any, int], list[dict[str, Any]]]:
    """`sample(model, step)`: the model's greedy answer to every question.

    Args:
        questions: conversations whose last answer it is asked for, when there are no `prompts`.
        prompts: what a user says.
        max_context_tokens: of the model; longer questions are not asked.
    """
    asked = asked_by_user(template, prompts) if prompts else asked_of(template, questions)
    room = max_context_tokens - SAMPLE_TOKENS
    usable = [(text, ids) for text, ids in asked if 0 < len(ids) <= room]

    def sample(model: Any, step: int) -> list[dict[str, Any]]:
        if not usable:
            return []
        stream = stream_tokens(
            model,
            [ids for _, ids in usable],
            max_new_tokens=SAMPLE_TOKENS,
            eos_id=template.tokenizer.eos_id,
            stop_ids=tuple(template.tokenizer.special_ids),
        )
        texts = collect_texts(stream_text(stream, template.tokenizer), num_rows=len(usable))
        return [{"prompt": prompt, "text": said.text} for (prompt, _), said in zip(usable, texts, strict=True)]

    return sample


def asked_by_user(template: ChosenTemplate, prompts: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Prompts and their tokens."""
    return [(prompt, opened(template, [{"role": "user", "content": prompt}])) for prompt in prompts]


def asked_of(template: ChosenTemplate, questions: Sequence[Conversation]) -> list[tuple[str, list[int]]]:
    """What stands before the last answer of each conversation, or the first words of a plain text."""
    found = []
    for question in questions:
        last = question.messages[-1]["content"]
        if question.is_plain or len(question.messages) < 2:
            begin = " ".join(last.split()[:PLAIN_WORDS])
            found.append((begin, prompt_tokens(template.tokenizer, begin)))
        else:
            before = list(question.messages[:-1])
            found.append((before[-1]["content"], opened(template, before)))
    return found


def opened(template: ChosenTemplate, messages: Sequence[Message]) -> list[int]:
    """Tokens of a conversation up to where the answer begins."""
    return render_chat(messages, template.tokenizer, template=template.text, add_generation_prompt=True).ids
