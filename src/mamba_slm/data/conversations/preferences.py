"""Preferences and judgements, in the forms in which they are published.

preference      {"prompt": …, "chosen": …, "rejected": …}          texts or messages (TRL, UltraFeedback, Orca pairs)
                {"conversations": […], "chosen": {…}, "rejected": {…}}         LLaMA-Factory
                {"instruction": …, "input": …, "chosen": …, "rejected": …}     Alpaca's fields
hh-rlhf         {"chosen": "\\n\\nHuman: …\\n\\nAssistant: …", "rejected": …}   Anthropic's dialogues
openassistant   a tree of messages whose replies are ranked
kto             {"messages": […], "label": true}, {"prompt": …, "completion": …, "label": false}
"""

from __future__ import annotations

import re
from typing import Any

from mamba_slm.data.conversations.example import Conversation, Labelled, Preference, Unusable
from mamba_slm.data.conversations.forms import (
    ANSWERS,
    INPUTS,
    INSTRUCTION,
    LISTS,
    PROMPTS,
    SYSTEMS,
    Form,
    Messages,
    Record,
    alpaca_prompt,
    answer_messages,
    first_of,
    list_of,
    missing,
    prompt_messages,
    rank_of,
    replies_in_order,
    told_tree,
    tree_of,
    with_system,
)
from mamba_slm.data.conversations.turns import checked, message_of, messages_of, said_by, with_tools

CHOSEN, REJECTED, LABEL = "chosen", "rejected", "label"
SPEAKERS = {"Human": "user", "Assistant": "assistant"}
SPEAKER = re.compile(r"\n\n(Human|Assistant):")
LABELS: dict[Any, bool] = {True: True, False: False, "true": True, "false": False, "good": True, "bad": False}
"""1 and 0 are True and False."""
PROMPT_FIELDS = frozenset({*LISTS, *PROMPTS, *SYSTEMS, INSTRUCTION, *INPUTS, "tools", "history"})


def told_dialogues(record: Record) -> str | None:
    """Two texts that begin with who speaks."""
    texts = [record.get(CHOSEN), record.get(REJECTED)]
    dialogues = all(isinstance(text, str) and SPEAKER.match(text) for text in texts)
    return "'chosen' and 'rejected' with 'Human:' and 'Assistant:'" if dialogues and len(record) == 2 else None


def dialogue(text: Any, where: str) -> Messages:
    """The messages of a text in which blank lines, "Human:" and "Assistant:" part them."""
    if not isinstance(text, str) or not SPEAKER.match(text):
        raise Unusable("not a conversation", f"{where} does not begin with a blank line and 'Human:'")
    _, *parts = SPEAKER.split(text)
    speakers, texts = parts[::2], parts[1::2]
    return tuple(said_by(SPEAKERS[name], text.strip()) for name, text in zip(speakers, texts, strict=True))


def from_dialogues(record: Record, origin: str) -> list[Preference]:
    """What both dialogues begin with is the prompt."""
    return [preference((), dialogue(record.get(CHOSEN), CHOSEN), dialogue(record.get(REJECTED), REJECTED), origin)]


def told_preference(record: Record) -> str | None:
    """Both continuations."""
    return "'chosen' and 'rejected'" if CHOSEN in record and REJECTED in record else None


def told_preference_alone(record: Record) -> str | None:
    """Both continuations, and no third answer that was meant for learning."""
    return None if first_of(record, ANSWERS) else told_preference(record)


def from_preference(record: Record, origin: str) -> list[Preference]:
    """A prompt in any form, or two whole conversations with the same beginning."""
    if CHOSEN not in record or REJECTED not in record:
        raise missing(record, (CHOSEN if CHOSEN not in record else REJECTED,))
    chosen, rejected = answer_messages(record[CHOSEN], CHOSEN), answer_messages(record[REJECTED], REJECTED)
    asked = asked_in(record)
    if asked and chosen[: len(asked)] == asked == rejected[: len(asked)]:
        asked = ()  # UltraFeedback: the prompt stands a second time at the beginning of both
    elif asked and chosen and chosen[0]["role"] in ("system", "user"):
        asked = with_system(record, ())
    return [preference(asked, chosen, rejected, origin)]


def asked_in(record: Record) -> Messages:
    """The prompt of a record; nothing where it has none."""
    name = list_of(record)
    if name is not None:
        return with_tools(with_system(record, messages_of(record[name], where=name)), record.get("tools"))
    if INSTRUCTION in record:
        return alpaca_prompt(record)
    name = first_of(record, PROMPTS)
    return () if name is None else prompt_messages(record, name)


def preference(asked: Messages, chosen: Messages, rejected: Messages, origin: str) -> Preference:
    """A pair whose common beginning is the prompt.

    Raises:
        Unusable: no prompt, the same twice, a continuation that does not end with an answer.
    """
    if chosen == rejected:
        raise Unusable("no preference", "chosen and rejected are the same")
    common = 0
    while common < min(len(chosen), len(rejected)) - 1 and chosen[common] == rejected[common]:
        common += 1
    asked, chosen, rejected = (*asked, *chosen[:common]), chosen[common:], rejected[common:]
    for name, continuation in ((CHOSEN, chosen), (REJECTED, rejected)):
        in_continuation(name, asked, continuation)
    return Preference(asked, chosen, rejected, origin)


def in_continuation(name: str, asked: Messages, continuation: Messages) -> None:
    """Check a prompt with what follows it.

    Raises:
        Unusable: see `checked`.
    """
    try:
        checked((*asked, *continuation))
    except Unusable as problem:
        raise Unusable(problem.kind, f"prompt and {name}: {problem.what}") from problem
    if not asked:
        raise Unusable("no prompt", f"there is no prompt before {name}")


def from_ranks(record: Record, origin: str) -> list[Preference]:
    """The best against the worst of all ranked replies to one message, for every message of the tree."""
    root = tree_of(record)
    if root is None:
        raise missing(record, ("prompt with replies",))
    found: list[Preference] = []
    waiting: list[tuple[Record, Messages]] = [(root, (message_of(root, "the first message"),))]
    while waiting:
        node, path = waiting.pop()
        replies = replies_in_order(node)
        ranked = [reply for reply in replies if rank_of(reply) is not None]
        if path[-1]["role"] == "user" and len(ranked) > 1:
            best, worst = message_of(ranked[0], "a reply"), message_of(ranked[-1], "a reply")
            if best["content"].strip() != worst["content"].strip():
                found.append(preference(path, (best,), (worst,), origin))
        waiting += [(reply, (*path, message_of(reply, "a reply"))) for reply in replies]
    if not found:
        raise Unusable("no preference", "no message of the tree has two ranked replies that differ")
    return found


def told_label(record: Record) -> str | None:
    """A judgement beside a conversation."""
    label = record.get(LABEL)
    judged = isinstance(label, bool) or (isinstance(label, str) and label.lower() in LABELS)
    has_text = list_of(record) or (first_of(record, PROMPTS) and first_of(record, ANSWERS))
    return "'label' beside an answer" if judged and has_text else None


def judgement(value: Any) -> bool | None:
    """What a label says; None where it says nothing."""
    return LABELS.get(value.lower() if isinstance(value, str) else value) if isinstance(value, str | int) else None


def from_label(record: Record, origin: str) -> list[Labelled]:
    """The last message, or the completion, is what was judged."""
    label = judgement(record.get(LABEL))
    if label is None:
        raise Unusable("no judgement", f"'label' is {record.get(LABEL)!r}; expected true or false")
    prompt, answer = first_of(record, PROMPTS), first_of(record, ANSWERS)
    name = list_of(record)
    if prompt and answer:
        asked, completion = prompt_messages(record, prompt), answer_messages(record[answer], answer)
        in_continuation(answer, asked, completion)
    elif name:
        messages = checked(with_tools(with_system(record, messages_of(record[name], where=name)), record.get("tools")))
        asked, completion = messages[:-1], messages[-1:]
    else:
        raise missing(record, (*LISTS, "prompt and completion"))
    return [Labelled(asked, completion, label, origin)]


def both_sides(pair: Preference) -> list[Labelled]:
    """A preference as two judgements."""
    sides = ((pair.chosen, True), (pair.rejected, False))
    return [Labelled(pair.prompt, completion, is_good, pair.origin) for completion, is_good in sides]


def conversation_of(pair: Preference) -> Conversation:
    """What was chosen."""
    return Conversation((*pair.prompt, *pair.chosen), pair.origin)


def good_conversation(record: Record, origin: str) -> list[Conversation]:
    """What was judged good; the bad ones are no problem, but no examples either."""
    return [Conversation((*one.prompt, *one.completion), origin) for one in from_label(record, origin) if one.is_good]


PREFERENCES: dict[str, Form[Preference]] = {
    form.name: form
    for form in (
        Form(name="hh-rlhf", told_by=told_dialogues, read=from_dialogues, fields=frozenset({CHOSEN, REJECTED})),
        Form(
            name="preference",
            told_by=told_preference,
            read=from_preference,
            fields=PROMPT_FIELDS | {CHOSEN, REJECTED},
        ),
        Form(
            name="openassistant",
            told_by=told_tree,
            read=from_ranks,
            fields=frozenset({"prompt", "text", "role", "replies", "message_tree_id", "tree_state"}),
        ),
    )
}
KTO = Form(
    name="kto",
    told_by=told_label,
    read=from_label,
    fields=PROMPT_FIELDS | {*ANSWERS, LABEL},
)
