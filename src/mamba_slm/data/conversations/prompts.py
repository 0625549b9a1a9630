"""Prompts with answers that can be checked, for rewards: from any form of conversation, or from texts alone.

{"question": "…", "answer": "… #### 18"}      GSM8K: what follows #### is the answer
{"messages": [… {"role": "user", …}]}         the answer, if there is one, stands in a field of its own
"How do I …?"                                 a text alone
"""

from __future__ import annotations

from typing import Any

from mamba_slm.data.conversations.example import Prompt, Unusable
from mamba_slm.data.conversations.forms import (
    ANSWERS,
    INSTRUCTION,
    PROMPTS,
    Form,
    Messages,
    Record,
    first_of,
    list_of,
    told_tree,
    tree_of,
)
from mamba_slm.data.conversations.preferences import CHOSEN, PROMPT_FIELDS, asked_in, dialogue, told_dialogues
from mamba_slm.data.conversations.turns import checked, message_of, said_by

CHECKED = ("answer", "solution", "target", "ground_truth", "label", *ANSWERS)
FINAL = "####"
TEXT = "text"


def told_prompt(record: Record) -> str | None:
    """Something to answer."""
    if told_tree(record) or told_dialogues(record):
        return told_tree(record) or told_dialogues(record)
    name = list_of(record) or (INSTRUCTION if INSTRUCTION in record else first_of(record, (*PROMPTS, TEXT)))
    return repr(name) if name else None


def from_prompt(record: Record, origin: str) -> list[Prompt]:
    """Everything up to the last message of the user."""
    asked = prompt_of(record)
    if not asked:
        raise Unusable("no prompt", f"nothing to answer among the fields {', '.join(record)}")
    answer = answer_in(record)
    if asked[-1]["role"] == "assistant":
        answer, asked = answer if answer is not None else asked[-1]["content"], asked[:-1]
    return [Prompt(checked(asked, ends_with="user"), answer, origin, record)]


def prompt_of(record: Record) -> Messages:
    """The messages of a record in any form; Anthropic's dialogues are told by the side that was chosen."""
    root = tree_of(record)
    if root is not None:
        return (message_of(root, "the first message"),)
    if told_dialogues(record):
        return dialogue(record[CHOSEN], CHOSEN)[:-1]
    return (said_by("user", record[TEXT]),) if isinstance(record.get(TEXT), str) else asked_in(record)


def answer_in(record: Record) -> str | None:
    """The answer of a record as text; a number, too, can be one."""
    name = first_of(record, CHECKED)
    return None if name is None else final(record[name])


def final(value: Any) -> str | None:
    """What GSM8K writes behind its mark, or the whole text."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value)
    return text.rpartition(FINAL)[2].strip() if FINAL in text else text


PROMPT = Form(
    name="prompt",
    told_by=told_prompt,
    read=from_prompt,
    fields=PROMPT_FIELDS | {*CHECKED, TEXT, "replies"},
)
