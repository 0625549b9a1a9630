"""The forms in which conversations are published: how each is told, and how it becomes messages.

messages            {"messages": [{"role": "user", "content": …}, …]}            OpenAI, UltraChat 200k, TRL
sharegpt            {"conversations": [{"from": "human", "value": …}, …]}        ShareGPT, LLaMA-Factory
ultrachat           {"data": ["question", "answer", "question", …]}              UltraChat as it was first published
alpaca              {"instruction": …, "input": …, "output": …}                  Alpaca, Dolly ("context", "response")
prompt-completion   {"prompt": …, "completion": …}                               TRL, OpenOrca ("question")
openassistant       {"prompt": {"text": …, "replies": [ … ]}}                    Open Assistant's trees
text                {"text": …}                                                  plain documents
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from mamba_slm.data.conversations.example import Conversation, Unusable
from mamba_slm.data.conversations.turns import checked, message_of, messages_of, said_by, text_of, with_tools
from mamba_slm.text.chat import Message

Record = Mapping[str, Any]
Messages = tuple[Message, ...]

T = TypeVar("T")

UNRANKED = 1 << 30
LISTS = ("messages", "conversations", "conversation")
PROMPTS = ("prompt", "question", "query", "problem")
ANSWERS = ("completion", "response", "answer", "output", "target", "solution")
INPUTS = ("input", "context")
SYSTEMS = ("system", "system_prompt")
INSTRUCTION = "instruction"


@dataclass(frozen=True, kw_only=True)
class Form(Generic[T]):
    """One way of writing examples."""

    name: str
    told_by: Callable[[Record], str | None]
    """What in a record shows the form, in words; None where nothing does."""
    read: Callable[[Record, str], list[T]]
    """A record and its origin to the examples in it, mostly one. Raises `Unusable`."""
    fields: frozenset[str]
    """What `read` looks at; anything else in a record is reported as not read."""


def first_of(record: Record, names: tuple[str, ...]) -> str | None:
    """The first of these names that the record has."""
    return next((name for name in names if name in record), None)


def list_of(record: Record) -> str | None:
    """The field with the list of messages."""
    return next((name for name in LISTS if isinstance(record.get(name), list)), None)


def told_messages(key: str, record: Record) -> str | None:
    """Whether the messages of a record say who speaks under this key; a list that is empty says nothing."""
    name = list_of(record)
    if name is None:
        return None
    messages = record[name]
    if messages and isinstance(messages[0], Mapping):
        return f"{name!r} with {key!r}" if key in messages[0] else None
    return f"{name!r}" if key == ("from" if name == "conversations" else "role") else None


def from_messages(record: Record) -> Messages:
    """OpenAI's and ShareGPT's lists."""
    name = list_of(record)
    if name is None:
        raise missing(record, LISTS)
    messages = messages_of(record[name], where=name)
    return checked(with_tools(with_system(record, messages), record.get("tools")))


def with_system(record: Record, messages: Messages) -> Messages:
    """The messages with the system message that stands in a field of its own, unless they have one."""
    name = first_of(record, SYSTEMS)
    text = record[name] if name else None
    if not isinstance(text, str) or not text.strip() or (messages and messages[0]["role"] == "system"):
        return messages
    return (said_by("system", text), *messages)


def told_ultrachat(record: Record) -> str | None:
    """A list of strings under "data"."""
    data = record.get("data")
    return "'data' of texts in turn" if isinstance(data, list) and all(isinstance(one, str) for one in data) else None


def from_ultrachat(record: Record) -> Messages:
    """User and assistant in turn."""
    data = record.get("data")
    if not isinstance(data, list):
        raise missing(record, ("data",))
    texts = [text_of(text, f"data[{number}]") for number, text in enumerate(data)]
    return checked(tuple(said_by(("user", "assistant")[number % 2], text) for number, text in enumerate(texts)))


def told_alpaca(record: Record) -> str | None:
    """An instruction and an answer to it."""
    answer = first_of(record, ANSWERS)
    return f"{INSTRUCTION!r} and {answer!r}" if INSTRUCTION in record and answer else None


def from_alpaca(record: Record) -> Messages:
    """The instruction, with its input after a blank line; `history` holds earlier turns as pairs."""
    return checked((*alpaca_prompt(record), said_by("assistant", field_text(record, ANSWERS))))


def alpaca_prompt(record: Record) -> Messages:
    """What comes before the answer."""
    instruction = field_text(record, (INSTRUCTION,))
    given = first_of(record, INPUTS)
    extra = text_of(record[given] or "", given) if given else ""
    question = "\n\n".join(part for part in (instruction, extra) if part.strip())
    history: list[Message] = []
    pairs: Any = record.get("history") or []
    if not isinstance(pairs, list):
        raise Unusable("not a conversation", "history is not a list of pairs")
    for number, pair in enumerate(pairs):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise Unusable("not a conversation", f"history[{number}] is not a pair of question and answer")
        texts = [text_of(text, f"history[{number}]") for text in pair]
        history += [said_by("user", texts[0]), said_by("assistant", texts[1])]
    return with_system(record, (*history, said_by("user", question)))


def told_pair(record: Record) -> str | None:
    """A prompt and its completion."""
    prompt, answer = first_of(record, PROMPTS), first_of(record, ANSWERS)
    return f"{prompt!r} and {answer!r}" if prompt and answer and not isinstance(record[prompt], Mapping) else None


def from_pair(record: Record) -> Messages:
    """Texts, or messages on both sides."""
    prompt, answer = first_of(record, PROMPTS), first_of(record, ANSWERS)
    if prompt is None or answer is None:
        raise missing(record, PROMPTS if prompt is None else ANSWERS)
    return checked((*prompt_messages(record, prompt), *answer_messages(record[answer], answer)))


def prompt_messages(record: Record, name: str) -> Messages:
    """A prompt under this name: a text, or messages."""
    value = record[name]
    asked = messages_of(value, where=name) if isinstance(value, list) else (said_by("user", text_of(value, name)),)
    return with_tools(with_system(record, asked), record.get("tools"))


def answer_messages(value: Any, where: str) -> Messages:
    """An answer: a text, a message, or several."""
    if isinstance(value, list):
        return messages_of(value, where=where)
    if isinstance(value, Mapping):
        return (message_of(value, where),)
    return (said_by("assistant", text_of(value, where)),)


def told_tree(record: Record) -> str | None:
    """A first message with its replies."""
    return "'prompt' with 'replies'" if isinstance(tree_of(record), Mapping) else None


def tree_of(record: Record) -> Record | None:
    """The first message of an Open Assistant tree."""
    root = record.get("prompt", record)
    return root if isinstance(root, Mapping) and "replies" in root and "text" in root else None


def replies_in_order(node: Record) -> list[Record]:
    """The replies to a message, the best one first, where people ranked them."""
    replies = node.get("replies") or []
    if not isinstance(replies, list) or not all(isinstance(reply, Mapping) for reply in replies):
        raise Unusable("not a conversation", "replies is not a list of messages")
    return sorted(replies, key=lambda reply: UNRANKED if (rank := rank_of(reply)) is None else rank)


def rank_of(reply: Record) -> int | None:
    """What place people gave a reply, from 0; None where they gave none."""
    rank = reply.get("rank")
    return rank if isinstance(rank, int) and not isinstance(rank, bool) else None


def from_tree(record: Record) -> Messages:
    """The path through the best replies, up to the last answer."""
    node = tree_of(record)
    if node is None:
        raise missing(record, ("prompt with replies",))
    path: list[Message] = []
    while True:
        path.append(message_of(node, f"message {len(path) + 1}"))
        replies = replies_in_order(node)
        if not replies:
            break
        node = replies[0]
    if len(path) > 1 and path[-1]["role"] == "user":
        path.pop()  # a question that nobody answered
    return checked(tuple(path))


def told_text(record: Record) -> str | None:
    """A text alone."""
    return "'text'" if isinstance(record.get("text"), str) and "role" not in record else None


def from_text(record: Record) -> Messages:
    """One message that is the whole text."""
    text = field_text(record, ("text",))
    if not text.strip():
        raise Unusable("empty text", "the text is empty")
    return (said_by("assistant", text),)


def field_text(record: Record, names: tuple[str, ...]) -> str:
    """The text under the first of these names that the record has.

    Raises:
        Unusable: none of them, or something that is not text.
    """
    name = first_of(record, names)
    if name is None:
        raise missing(record, names)
    return text_of(record[name], name)


def missing(record: Record, names: tuple[str, ...]) -> Unusable:
    """The problem with a record that lacks what its form needs."""
    return Unusable("unknown fields", f"there is no {' or '.join(map(repr, names))}; the fields: {', '.join(record)}")


def one(read: Callable[[Record], Messages], *, is_plain: bool = False) -> Callable[[Record, str], list[Conversation]]:
    """A reader of messages as a reader of conversations."""
    return lambda record, origin: [Conversation(read(record), origin, is_plain)]


FORMS: dict[str, Form[Conversation]] = {
    form.name: form
    for form in (
        Form(
            name="messages",
            told_by=lambda record: told_messages("role", record),
            read=one(from_messages),
            fields=frozenset({*LISTS, *SYSTEMS, "tools"}),
        ),
        Form(
            name="sharegpt",
            told_by=lambda record: told_messages("from", record),
            read=one(from_messages),
            fields=frozenset({*LISTS, *SYSTEMS, "tools"}),
        ),
        Form(name="ultrachat", told_by=told_ultrachat, read=one(from_ultrachat), fields=frozenset({"data"})),
        Form(
            name="alpaca",
            told_by=told_alpaca,
            read=one(from_alpaca),
            fields=frozenset({INSTRUCTION, *INPUTS, *ANSWERS, *SYSTEMS, "history"}),
        ),
        Form(
            name="prompt-completion",
            told_by=told_pair,
            read=one(from_pair),
            fields=frozenset({*PROMPTS, *ANSWERS, *SYSTEMS, "tools"}),
        ),
        Form(
            name="openassistant",
            told_by=told_tree,
            read=one(from_tree),
            fields=frozenset({"prompt", "text", "role", "replies", "message_tree_id", "tree_state"}),
        ),
        Form(name="text", told_by=told_text, read=one(from_text, is_plain=True), fields=frozenset({"text"})),
    )
}
"""By name, in the order in which they are tried."""
