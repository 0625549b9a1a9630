"""Messages of any dialect as `{"role": …, "content": …}`, and the order in which they must come."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mamba_slm.data.conversations.example import Unusable
from mamba_slm.text.chat import Message

ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "question"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model", "bing", "bard", "answer"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "observation", "function", "function_response", "tool_response", "ipython"), "tool"),
    "function_call": "assistant",
    "tool_call": "assistant",
}
CALLS = ("function_call", "tool_call")
FOLLOWERS = {
    "start": ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}
TOOL_CALL = "<tool_call>\n{}\n</tool_call>"
TOOLS = "You may call these tools, each call as JSON between <tool_call> and </tool_call>:\n<tools>\n{}\n</tools>"
"""The convention of Hermes and Qwen; templates without a place for tools show them as text."""


def said_by(role: str, content: str) -> Message:
    """A message."""
    return {"role": role, "content": content}


def messages_of(raw: Any, *, where: str) -> tuple[Message, ...]:
    """Messages as `role`/`content` or as `from`/`value`; an empty system message is none.

    Args:
        raw: the list as it was read.
        where: the field that holds it, for problems.

    Raises:
        Unusable: not a list of messages, an unknown role, content that is not text.
    """
    if not isinstance(raw, Sequence) or isinstance(raw, str):
        raise Unusable("not a conversation", f"{where} is not a list of messages but {kind_of(raw)}")
    messages = [message_of(one, f"{where}[{number}]") for number, one in enumerate(raw)]
    return tuple(one for one in messages if one["content"].strip() or one["role"] != "system")


def message_of(raw: Any, where: str) -> Message:
    """One message; see `messages_of`."""
    if not isinstance(raw, Mapping):
        raise Unusable("not a conversation", f"{where} is not a message but {kind_of(raw)}")
    spoken = next((raw[key] for key in ("role", "from") if key in raw), None)
    if spoken is None:
        raise Unusable("unknown fields", f"{where} has neither 'role' nor 'from'; its fields: {', '.join(raw)}")
    role = ROLES.get(spoken.lower()) if isinstance(spoken, str) else None
    if role is None:
        raise Unusable("unknown role", f"{where} has the role {spoken!r}; known: {', '.join(ROLES)}")
    key = next((key for key in ("content", "value", "text") if key in raw), None)
    if key is None and not raw.get("tool_calls"):
        raise Unusable("unknown fields", f"{where} has neither 'content' nor 'value'; its fields: {', '.join(raw)}")
    content = text_of(raw.get(key) if key else None, where, may_be_absent=bool(raw.get("tool_calls")))
    asked = raw.get("tool_calls") or []
    if not isinstance(asked, list):
        raise Unusable("unknown fields", f"{where}: tool_calls is not a list but {kind_of(asked)}")
    calls = [TOOL_CALL.format(whole(as_text(call_of(call)), where)) for call in asked]
    if isinstance(spoken, str) and spoken.lower() in CALLS:
        calls, content = [TOOL_CALL.format(content)], ""
    return said_by(role, "\n".join([*([content] if content else []), *calls]))


def call_of(call: Any) -> Any:
    """The name and arguments of an OpenAI tool call; its id and type mean nothing to a model."""
    function = call.get("function", call) if isinstance(call, Mapping) else call
    if isinstance(function, Mapping) and isinstance(function.get("arguments"), str):
        try:
            return {**function, "arguments": json.loads(function["arguments"])}
        except ValueError:
            return function  # as the model wrote it
    return function


def text_of(content: Any, where: str, *, may_be_absent: bool = False) -> str:
    """The text of a message: a string, or OpenAI's list of parts if all of them are text.

    Raises:
        Unusable: images, sounds, nothing at all.
    """
    if content is None and may_be_absent:
        return ""
    if isinstance(content, str):
        return whole(content, where)
    if isinstance(content, Sequence):
        kinds = {str(part.get("type", "text")) if isinstance(part, Mapping) else kind_of(part) for part in content}
        if kinds <= {"text"}:
            return whole("".join(str(part.get("text", "")) for part in content), where)
        raise Unusable("not text", f"{where} holds {', '.join(sorted(kinds - {'text'}))}, and only text can be learned")
    raise Unusable("not text", f"{where} is not text but {kind_of(content)}")


def whole(text: str, where: str) -> str:
    """The text, if it is valid Unicode."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Unusable("not text", f"{where} holds half of a surrogate pair at character {error.start}") from error
    return text


def with_tools(messages: tuple[Message, ...], tools: Any) -> tuple[Message, ...]:
    """The messages with the descriptions of tools in the system message, where there are any."""
    if not tools or tools == "[]":
        return messages
    text = TOOLS.format(whole(as_text(tools), "tools"))
    if messages and messages[0]["role"] == "system":
        return (said_by("system", f"{messages[0]['content']}\n\n{text}"), *messages[1:])
    return (said_by("system", text), *messages)


def as_text(value: Any) -> str:
    """A string as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def checked(messages: tuple[Message, ...], *, ends_with: str = "assistant") -> tuple[Message, ...]:
    """The messages, if they come in an order that a chat can have and none of them is empty.

    Raises:
        Unusable: which message is wrong, and why.
    """
    before = "start"
    for number, message in enumerate(messages, start=1):
        role = message["role"]
        if role not in FOLLOWERS[before]:
            place = "begins the conversation" if before == "start" else f"comes after one of {before}"
            raise Unusable(
                "roles in the wrong order",
                f"message {number} is of {role} and {place}; expected {' or '.join(FOLLOWERS[before])}",
            )
        if not message["content"].strip() and role != "tool":
            kind = "empty answer" if role == "assistant" else "empty message"
            raise Unusable(kind, f"message {number}, of {role}, is empty")
        before = role
    if before == "start":
        raise Unusable("not a conversation", "there are no messages")
    if before not in (ends_with, "tool" if ends_with == "user" else ends_with):
        raise Unusable("roles in the wrong order", f"the last message is of {before}; expected {ends_with}")
    return messages


def kind_of(value: Any) -> str:
    """How errors name a value's type."""
    return "null" if value is None else type(value).__name__
