"""Requests of the API as requests of the engine."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.conversation.turns import end_of_turn
from mamba_slm.generation.sampling import Sampler
from mamba_slm.generation.strategies.constraints import following_schema
from mamba_slm.generation.strategies.penalties import Processor
from mamba_slm.generation.text import prompt_tokens
from mamba_slm.serving.api.guard.caller import tenant
from mamba_slm.serving.api.guard.trials import check_schema
from mamba_slm.serving.api.schemas import ChatBody, ChatMessage, CompletionBody, Sampling
from mamba_slm.serving.api.service import ServedModel
from mamba_slm.serving.api.tools.bodies import Tool
from mamba_slm.serving.api.tools.choice import ToolUse, messages_for, shown, tool_use
from mamba_slm.serving.engine.request import EngineRequest
from mamba_slm.text.chat import Message, render_chat

DEFAULT_COMPLETION_TOKENS = 16
"""Where nothing is said; OpenAI's own default for completions. A chat goes on to the end of its turn."""
LEAST_TEMPERATURE = 1e-5
"""Below it answers are greedy: logits divided by 1e-320 are infinite. vLLM draws the same line."""
GOLDEN = 0x9E3779B97F4A7C15
"""Between the seeds of two answers to one request, as between rows elsewhere."""


@dataclass(frozen=True, kw_only=True)
class RenderedPrompt:
    """A prompt in tokens."""

    tokens: tuple[int, ...]
    boundaries: tuple[int, ...] = ()
    """Ends of messages."""
    stop_ids: frozenset[int] = frozenset()
    constraint: Processor | None = None
    text: str = ""
    """As it was given, for `echo`."""
    num_before: int = 0
    """Tokens before those of the text: the one that begins a document."""
    tool_use: ToolUse | None = None
    """Where the answer may call functions."""


def completion_prompts(body: CompletionBody, model: ServedModel) -> list[RenderedPrompt]:
    """A text begins a document; token ids are taken as they are.

    Raises:
        ConfigError: none.
    """
    prompts = body.prompts
    if not prompts:
        raise ConfigError("prompt is an empty list", hint="give at least one text; an empty text begins a document")
    rendered = []
    for prompt in prompts:
        is_text = isinstance(prompt, str)
        tokens = prompt_tokens(model.tokenizer, prompt) if is_text else list(prompt)
        text = prompt if is_text else model.tokenizer.decode(tokens) if max(tokens, default=0) < 2**31 else ""
        rendered.append(RenderedPrompt(tokens=tuple(tokens), text=text, num_before=int(is_text)))
    return rendered


def chat_prompt(body: ChatBody, model: ServedModel) -> RenderedPrompt:
    """Messages through the model's template. Done beside the engine: it takes milliseconds.

    Raises:
        ConfigError: the model has no template, or a schema cannot be followed.
        DataError: the template refuses the messages.
    """
    template, tokenizer = template_of(model), model.tokenizer
    use = tool_use(body, template)
    tokens = chat_tokens(body.messages, model, tools=() if use is None else use.tools)

    def encode(messages: Sequence[Message], open_reply: bool) -> list[int]:
        return render_chat(messages, tokenizer, add_generation_prompt=open_reply, template=template).ids

    end = end_of_turn(encode, tokenizer)
    constraint = None if use is None else use.constraint(tokenizer, end=end)
    schema = body.answer_schema
    if use is None and schema is not None:
        check_schema(schema)
        constraint = following_schema(json.dumps(schema), tokenizer, end_ids=(tokenizer.eos_id, end))
    return RenderedPrompt(
        tokens=tuple(tokens),
        boundaries=message_ends(tokens, end),
        stop_ids=frozenset({end}),
        constraint=constraint,
        tool_use=use,
    )


def chat_tokens(
    messages: Sequence[ChatMessage], model: ServedModel, *, tools: Sequence[Tool] = (), open_reply: bool = True
) -> list[int]:
    """A conversation in tokens.

    Args:
        open_reply: end with the beginning of an answer.

    Raises:
        ConfigError: the model has no template.
        DataError: the template refuses the messages.
    """
    template = template_of(model)
    return render_chat(
        messages_for(messages, tools, template),
        model.tokenizer,
        add_generation_prompt=open_reply,
        template=template,
        tools=[shown(tool) for tool in tools] or None,
    ).ids


def template_of(model: ServedModel) -> str:
    """The chat template.

    Raises:
        ConfigError: the model has none.
    """
    if model.template is None:
        raise ConfigError(
            f"the model {model.name!r} has no chat template: it continues texts and knows no turns",
            hint="use /v1/completions, or serve a model that was fine-tuned for chat",
        )
    return model.template


def message_ends(tokens: Sequence[int], end: int) -> tuple[int, ...]:
    """Positions behind the end of each message but the last, whose end is nearly that of the prompt.

    >>> message_ends([7, 5, 9, 7, 5, 5, 9, 7], end=9)
    (3, 7)
    """
    return tuple(place + 1 for place, token in enumerate(tokens) if token == end)


def engine_requests(
    body: Sampling, prompt: RenderedPrompt, model: ServedModel, *, max_new_tokens: int | None, logprobs: int | None
) -> list[EngineRequest]:
    """One request for each of the `n` answers.

    Raises:
        ConfigError: a value that means nothing.
    """
    temperature = 1.0 if body.temperature is None else body.temperature
    temperature = 0.0 if temperature < LEAST_TEMPERATURE else temperature
    sampler = Sampler.from_settings(
        temperature=temperature,
        top_p=body.top_p if body.top_p != 1 else None,
        top_k=body.top_k if body.top_k is not None and body.top_k > 0 else None,
        min_p=body.min_p or None,
        typical_p=body.typical_p,
        repetition_penalty=body.repetition_penalty,
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        logit_bias=body.biases,
        constraint=prompt.constraint,
    )
    seed = secrets.randbits(63) if body.seed is None else body.seed
    room = max(1, model.context_tokens - len(prompt.tokens))
    return [
        EngineRequest(
            prompt=prompt.tokens,
            max_new_tokens=min(room, max_new_tokens or room),
            sampler=sampler,
            seed=(seed + number * GOLDEN) % 2**63,
            eos_id=None if body.ignore_eos else model.tokenizer.eos_id,
            stop_ids=frozenset() if body.ignore_eos else prompt.stop_ids,
            stops=body.stops,
            logprobs=logprobs,
            boundaries=prompt.boundaries,
            adapter=model.adapter,
            salt=body.cache_salt,
            use_cache=body.cache_prompt,
            guess=body.speculative,
            priority=body.priority,
            tenant=tenant(otherwise=body.user or ""),
        )
        for number in range(body.n or 1)
    ]
