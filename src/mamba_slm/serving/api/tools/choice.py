"""What a request wants of tools, and what follows for its prompt and its answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.generation.strategies.constraints import Constraint, following_grammar
from mamba_slm.serving.api.bodies.strict import sayable
from mamba_slm.serving.api.guard.trials import check_schema
from mamba_slm.serving.api.schemas import ChatBody, ChatMessage
from mamba_slm.serving.api.tools.bodies import NamedTool, Tool
from mamba_slm.serving.api.tools.form import CallForm, form_of, knows_tools, system_text
from mamba_slm.serving.api.tools.grammar import calls_grammar
from mamba_slm.serving.api.tools.parsing import CallParser
from mamba_slm.text.chat import Message
from mamba_slm.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class ToolUse:
    """Of one request that may call functions."""

    tools: tuple[Tool, ...]
    """Those that the model is shown."""
    callable_: tuple[Tool, ...]
    """Those that it may call."""
    form: CallForm
    must_call: bool
    most_calls: int | None
    answer: Mapping[str, Any] | None = None
    """JSON schema of an answer that calls nothing; None: it is free text."""

    def parser(self) -> CallParser:
        """For one answer."""
        return CallParser(self.form, most_calls=self.most_calls)

    def constraint(self, tokenizer: Tokenizer, *, end: int) -> Constraint | None:
        """What the answer must follow; None: it is free.

        Raises:
            ConfigError: parameters, or an answer, whose schema cannot be followed.
        """
        is_strict = any(tool.function.strict for tool in self.callable_)
        is_bound = self.must_call or self.answer is not None
        if not is_bound and not (is_strict and self.form.head):  # without a tag, text and calls look alike
            return None
        for schema in (*(tool.function.parameters for tool in self.callable_), self.answer):
            check_schema(schema or {})
        grammar = calls_grammar(
            [tool.function for tool in self.callable_],
            self.form,
            is_free=not is_bound,
            most_calls=self.most_calls,
            specials=special_names(tokenizer),
            answer=self.answer,
        )
        return following_grammar(grammar, tokenizer, what="the tools", end_ids=(tokenizer.eos_id, end))


def tool_use(body: ChatBody, template: str) -> ToolUse | None:
    """What a request says about tools; None: nothing, or that none may be called.

    Raises:
        ConfigError: a choice without tools, two tools of one name, or a `response_format` that could be a call.
        UnknownNameError: the tool that must be called is not there.
    """
    choice = body.tool_choice
    if not body.tools:
        if choice not in (None, "none"):
            raise ConfigError("tool_choice is given without tools", hint="give tools, or leave tool_choice out")
        return None
    names = [tool.function.name for tool in body.tools]
    if len(set(names)) < len(names):
        raise ConfigError("two tools have the same name", hint="a call says nothing but the name: give each its own")
    if choice == "none":
        return None
    allowed = tuple(body.tools)
    if isinstance(choice, NamedTool):
        allowed = tuple(tool for tool in body.tools if tool.function.name == choice.function.name)
        if not allowed:
            raise UnknownNameError("tool", choice.function.name, names)
    form, must_call = form_of(template), isinstance(choice, NamedTool) or choice == "required"
    answer = None if must_call else body.answer_schema
    if answer is not None and not form.head:
        raise ConfigError(
            "a call of this model is JSON without a mark, which cannot be told from an answer in a response_format",
            hint='leave one of them out, or say "tool_choice": "none" or "required"',
        )
    return ToolUse(
        tools=tuple(body.tools),
        callable_=allowed,
        form=form,
        must_call=must_call,
        answer=answer,
        most_calls=1 if isinstance(choice, NamedTool) or body.parallel_tool_calls is False else None,
    )


def messages_for(messages: Sequence[ChatMessage], tools: Sequence[Tool], template: str) -> Sequence[Message]:
    """Messages as the template wants them; where it knows no tools, tools and calls are text.

    Raises:
        ConfigError: the arguments of an earlier call are no JSON object.
    """
    form, knows = form_of(template), knows_tools(template)
    made: list[dict[str, Any]] = []
    for message in messages:
        one: dict[str, Any] = {"role": message.role, "content": message.text}
        if message.role == "developer":
            one["role"] = "system"
        if message.role == "tool" and message.tool_call_id is not None:
            one["tool_call_id"] = message.tool_call_id
        if message.name is not None:
            one["name"] = message.name
        calls = message.tool_calls or []
        if calls and knows:
            one["tool_calls"] = [
                {
                    "id": call.id,
                    "type": call.type,
                    "function": {"name": call.function.name, "arguments": arguments_of(call.function.arguments)},
                }
                for call in calls
            ]
        elif calls:
            texts = [form.call(call.function.name, json_of(call.function.arguments)) for call in calls]
            one["content"] = "\n".join([message.text, *texts] if message.text else texts)
        made.append(one)
    if tools and not knows:
        said = system_text([shown(tool) for tool in tools])
        if made[0]["role"] == "system":
            made[0]["content"] = f"{made[0]['content']}\n\n{said}"
        else:
            made.insert(0, {"role": "system", "content": said})
    return made


def shown(tool: Tool) -> dict[str, Any]:
    """A tool as templates see it: as the client wrote it."""
    return tool.model_dump(exclude_unset=True)


def arguments_of(text: str) -> dict[str, Any]:
    """Of an earlier call.

    Raises:
        ConfigError: no JSON object, one that is nested too deeply, or one that cannot be written again.
    """
    try:
        arguments = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the arguments of a tool call are no JSON: {error}") from error
    if not isinstance(arguments, dict):
        raise ConfigError("the arguments of a tool call are no JSON object", hint='for example "{}"')
    try:
        return sayable(arguments)
    except ValueError as error:
        raise ConfigError(f"the arguments of a tool call cannot be read: {error}") from error


def json_of(text: str) -> str:
    """The same arguments, written as the model writes them."""
    return json.dumps(arguments_of(text), ensure_ascii=False)


def special_names(tokenizer: Tokenizer) -> frozenset[str]:
    """Texts that are special tokens."""
    return frozenset(tokenizer.decode([id], skip_special=False) for id in tokenizer.special_ids)
