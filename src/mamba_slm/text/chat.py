"""Conversations to token ids with a loss mask, through a ChatML template.

    <|im_start|>user
    What is a lake?<|im_end|>
    <|im_start|>assistant
    Water with land around it.<|im_end|>

The template alone writes special tokens: what looks like one inside a message is encoded as plain characters. The mask
holds the answers and the token that ends them, exactly what the model must produce itself.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mamba_slm.core.errors import DataError
from mamba_slm.text.template import render_template
from mamba_slm.text.tokenizer import IM_END, Tokenizer

CHATML_TEMPLATE = """\
{% for message in messages %}
<|im_start|>{{ message.role }}
{% if message.role == "assistant" %}
{% generation %}{{ message.content }}<|im_end|>{% endgeneration %}
{% else %}
{{ message.content }}<|im_end|>
{%- endif %}

{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}
"""
ROLES = ("system", "user", "assistant", "tool")
GENERATION_BLOCK = re.compile(r"\{%-?\s*generation\s*-?%\}")
Message = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class RenderedChat:
    """A conversation as the model sees it."""

    ids: list[int]
    """[t] token ids."""

    loss_mask: list[bool]
    """[t] True where the token is part of an answer."""


def render_chat_text(
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool = False,
    template: str = CHATML_TEMPLATE,
    bos_token: str = "",
    eos_token: str = "",
) -> str:
    """The conversation as text, for people and for engines that tokenize themselves.

    Args:
        messages: `{"role": …, "content": …}` each, in order.
        add_generation_prompt: end with the beginning of an answer, for generation.
        template: Jinja, as in the tokenizer_config.json of a model.
        bos_token, eos_token: what the template may write under these names.

    Raises:
        DataError: see `check_messages` and `render_template`.
    """
    check_messages(messages)
    return render_template(template, variables_of(messages, add_generation_prompt, bos_token, eos_token))


def render_chat(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    *,
    add_generation_prompt: bool = False,
    template: str = CHATML_TEMPLATE,
    find_answers: bool = False,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> RenderedChat:
    """Token ids of a conversation, and which of them are answers.

    Args:
        messages: `{"role": …, "content": …}` each, in order.
        tokenizer: must have the special tokens that the template writes.
        add_generation_prompt: end with the beginning of an answer, for generation.
        template: Jinja; `{% generation %}` blocks around answers make the mask.
        find_answers: make the mask also with a template that has no such blocks, as most have none: an answer is what
            comes after the generation prompt, up to the special token that ends it. Text before and after that border
            is encoded apart, as it is when the model goes on by itself.
        tools: functions that the model may call, for templates that write them.

    Raises:
        DataError: a message without role or content, a template that fails, or a tokenizer without ChatML's tokens;
            answers that cannot be found, because the template writes earlier turns in another way later.
    """
    check_messages(messages)
    if template == CHATML_TEMPLATE:
        tokenizer.special_id(IM_END)
    specials = {tokenizer.decode([id], skip_special=False): id for id in sorted(tokenizer.special_ids)}
    names = sorted(specials, key=len, reverse=True)  # a longer name wins where one begins like another
    any_special = re.compile("|".join(map(re.escape, names)))
    # A private mark inside everything in a message that looks like a special token keeps it from being one; the mark
    # is drawn anew for every rendering, so that no message can contain it, and is taken out again below.
    nonce = secrets.token_hex(16)
    breaker, begin, end = f"\ue000{nonce}\ue001", f"\ue000{nonce}\ue002", f"\ue000{nonce}\ue003"
    names_of = {id: name for name, id in specials.items()}
    ends = names_of.get(tokenizer.bos_id, ""), names_of.get(tokenizer.eos_id, "")
    variables = variables_of(messages, add_generation_prompt, *ends)
    variables["tools"] = None if tools is None else list(tools)
    for name in ("messages", "tools"):
        variables[name] = broken_up(variables[name], any_special, breaker)
    text = render_template(template, variables, generation_marks=(begin, end))
    if find_answers and not GENERATION_BLOCK.search(template):
        text = with_marks(text, answer_spans(text, variables, template, any_special), begin, end)

    ids: list[int] = []
    loss_mask: list[bool] = []
    in_answer = continues = False
    borders = re.compile(f"({re.escape(begin)}|{re.escape(end)}|{any_special.pattern})")
    for part in borders.split(text):
        if part in (begin, end):
            in_answer = part == begin
            continue
        if not part:
            continue
        plain = part not in specials
        new = tokenizer.encode(part.replace(breaker, ""), continues=continues) if plain else [specials[part]]
        continues = plain
        ids += new
        loss_mask += [in_answer] * len(new)
    return RenderedChat(ids=ids, loss_mask=loss_mask)


def answer_spans(
    text: str, variables: dict[str, Any], template: str, any_special: re.Pattern[str]
) -> list[tuple[int, int]]:
    """Begin and end in a rendered conversation of every answer, its special token at the end included.

    Raises:
        DataError: what comes before an answer stands otherwise in the whole text.
    """
    spans: list[tuple[int, int]] = []
    messages = variables["messages"]
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = variables | {"messages": messages[:number], "add_generation_prompt": True}
        asked = render_template(template, before)
        if not text.startswith(asked):
            raise DataError(
                f"the chat template does not show where the answer of message {number + 1} begins: what it writes "
                "before an answer changes when the answer is there",
                hint="put {% generation %} and {% endgeneration %} around answers in the template, or use ChatML: "
                "--template chatml",
            )
        closing = any_special.search(text, len(asked))
        if closing is None:
            through = variables | {"messages": messages[: number + 1], "add_generation_prompt": False}
            spans.append((len(asked), len(render_template(template, through))))
        else:
            spans.append((len(asked), closing.end()))
    return spans


def with_marks(text: str, spans: Sequence[tuple[int, int]], begin: str, end: str) -> str:
    """The text with marks around these spans."""
    for first, last in reversed(spans):
        text = f"{text[:first]}{begin}{text[first:last]}{end}{text[last:]}"
    return text


def variables_of(
    messages: Sequence[Message], add_generation_prompt: bool, bos_token: str, eos_token: str
) -> dict[str, Any]:
    """What a template sees: the names that transformers uses."""
    return {
        "messages": [dict(message) for message in messages],
        "add_generation_prompt": add_generation_prompt,
        "bos_token": bos_token,
        "eos_token": eos_token,
        "tools": None,
    }


def broken_up(value: Any, any_special: re.Pattern[str], breaker: str) -> Any:
    """The value with `breaker` inside everything in its texts that looks like a special token."""
    if isinstance(value, str):
        return any_special.sub(lambda match: match[0][0] + breaker + match[0][1:], value)
    if isinstance(value, Mapping):
        return {key: broken_up(item, any_special, breaker) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [broken_up(item, any_special, breaker) for item in value]
    return value


def check_messages(messages: Sequence[Message]) -> None:
    """Refuse what no template could render.

    Raises:
        DataError: no message, an unknown role, or a message without text; names its number.
    """
    if not messages:
        raise DataError("the conversation has no messages")
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, Mapping) or "role" not in message or "content" not in message:
            raise DataError(
                f"message {number} must be an object with 'role' and 'content'",
                hint='for example {"role": "user", "content": "Hello"}',
            )
        if message["role"] not in ROLES:
            raise DataError(
                f"message {number} has the unknown role {message['role']!r}", hint=f"known: {', '.join(ROLES)}"
            )
        if not isinstance(message["content"], str):
            raise DataError(f"the content of message {number} is not text but {type(message['content']).__name__}")
