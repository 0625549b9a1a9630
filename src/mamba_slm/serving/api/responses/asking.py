"""A request in this form, in the form of a chat."""

from __future__ import annotations

import mamba_slm.serving.api.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from collections.abc import Sequence

from mamba_slm.serving.api.responses.bodies import LOGPROBS, FunctionChoice, FunctionTool, ResponsesBody, TextFormat
from mamba_slm.serving.api.responses.items import InputCall, InputCallOutput, InputPart
from mamba_slm.serving.api.schemas import ChatBody, ChatMessage, Drawing, JsonSchema, ResponseFormat, TextPart
from mamba_slm.serving.api.tools.bodies import CalledFunction, Function, NamedFunction, NamedTool, Tool, ToolCall


def chat_body(body: ResponsesBody) -> ChatBody:
    """The same request as /v1/chat/completions takes it; it has been checked already."""
    shared = {name: getattr(body, name) for name in Drawing.model_fields}
    shared["user"] = body.user or body.safety_identifier
    choice = None if body.tool_choice == "auto" else body.tool_choice  # which says nothing, tools or not
    format = None if body.text is None else body.text.format
    return ChatBody.model_construct(
        **shared,
        messages=messages_of(body),
        max_completion_tokens=body.max_output_tokens,
        logprobs=bool(body.top_logprobs) or LOGPROBS in (body.include or ()),
        top_logprobs=body.top_logprobs,
        response_format=None if format is None else response_format(format),
        tools=None if body.tools is None else [tool_of(tool) for tool in body.tools],
        tool_choice=named(choice) if isinstance(choice, FunctionChoice) else choice,
        parallel_tool_calls=body.parallel_tool_calls,
    )


def messages_of(body: ResponsesBody) -> list[ChatMessage]:
    """Instructions and items as messages. What an answer consisted of, text and calls, is one message again."""
    made: list[ChatMessage] = []
    if body.instructions is not None:
        made.append(ChatMessage(role="system", content=body.instructions))
    for item in body.input:
        before = made[-1] if made and made[-1].role == "assistant" else None
        if isinstance(item, InputCallOutput):
            made.append(message("tool", item.output, tool_call_id=item.call_id))
        elif isinstance(item, InputCall):
            if before is None:
                before = message("assistant", [])
                made.append(before)
            before.tool_calls = before.tool_calls or []
            before.tool_calls.append(call_of(item))
        elif before is not None and before.tool_calls and item.role == "assistant":
            assert isinstance(before.content, list)
            before.content += parts_of(item.content)
        else:
            made.append(message(item.role, item.content))
    return made


def message(role: str, content: Sequence[InputPart], *, tool_call_id: str | None = None) -> ChatMessage:
    """A message; what came is of the right types already, and only the sum of its parts may be long."""
    return ChatMessage.model_construct(role=role, content=parts_of(content), tool_call_id=tool_call_id)  # type: ignore[arg-type]


def parts_of(content: Sequence[InputPart]) -> list[TextPart]:
    """Its texts."""
    return [TextPart(type="text", text=part.text) for part in content]


def call_of(item: InputCall) -> ToolCall:
    """A call of an earlier answer."""
    return ToolCall(id=item.call_id, function=CalledFunction(name=item.name, arguments=item.arguments))


def tool_of(tool: FunctionTool) -> Tool:
    """With those fields that say something, for templates show them."""
    said = tool.model_dump(exclude={"type"}, exclude_none=True)
    return Tool(type="function", function=Function(**said))


def named(choice: FunctionChoice) -> NamedTool:
    """The function that must be called."""
    return NamedTool(type="function", function=NamedFunction(name=choice.name))


def response_format(format: TextFormat) -> ResponseFormat:
    """What the answer must look like."""
    schema = None if format.schema_ is None else JsonSchema.model_validate({"schema": format.schema_})
    return ResponseFormat(type=format.type, json_schema=schema)
