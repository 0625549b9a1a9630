"""Read conversations, preferences, judgements and prompts from a file, a folder or the hub."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mamba_slm.core.errors import DataError, UnknownNameError
from mamba_slm.data.conversations.collected import collected_records, is_collected
from mamba_slm.data.conversations.example import (
    Conversation,
    Examples,
    Labelled,
    Preference,
    Problem,
    Prompt,
    Unusable,
)
from mamba_slm.data.conversations.forms import FORMS, Form, Record
from mamba_slm.data.conversations.hub import hub_records, is_hub_id
from mamba_slm.data.conversations.preferences import (
    KTO,
    PREFERENCES,
    both_sides,
    conversation_of,
    good_conversation,
    told_preference_alone,
)
from mamba_slm.data.conversations.prompt_lines import is_text_file, lines_of_text
from mamba_slm.data.conversations.prompts import PROMPT
from mamba_slm.data.conversations.records import Found, local_records

Say = Callable[[str], None]
S = TypeVar("S")
T = TypeVar("T")
SHOWN_FIELDS = 12
LOOKED_AT = 100
"""Records by which the form is told: a broken one at the beginning does not decide."""


def derived(form: Form[S], convert: Callable[[S], list[T]]) -> Form[T]:
    """A form of other examples, made of those of a form."""

    def read(record: Record, origin: str) -> list[T]:
        return [made for example in form.read(record, origin) for made in convert(example)]

    return Form(name=form.name, told_by=form.told_by, read=read, fields=form.fields)


CONVERSATION_FORMS: dict[str, Form[Conversation]] = {
    "kto": Form(name="kto", told_by=KTO.told_by, read=good_conversation, fields=KTO.fields),
    "hh-rlhf": derived(PREFERENCES["hh-rlhf"], lambda pair: [conversation_of(pair)]),
    "preference": Form(
        name="preference",
        told_by=told_preference_alone,
        read=derived(PREFERENCES["preference"], lambda pair: [conversation_of(pair)]).read,
        fields=PREFERENCES["preference"].fields,
    ),
    **FORMS,
}
LABELLED_FORMS: dict[str, Form[Labelled]] = {
    "kto": KTO,
    **{name: derived(form, both_sides) for name, form in PREFERENCES.items()},
}
SFT_SPLITS = ("train", "train_sft")
PREFERENCE_SPLITS = ("train_prefs", "train")


def read_conversations(
    source: str | Path, *, form: str | None = None, split: str | None = None, limit: int | None = None, say: Say
) -> Examples[Conversation]:
    """Conversations to learn the answers of.

    Of preferences the chosen side is taken, of judgements what was judged good.

    Args:
        source: a file, a folder, a data set on the hub as OWNER/NAME or OWNER/NAME:CONFIGURATION, or prefs:NAME, what
            `mamba-slm prefs` collected.
        form: one of `CONVERSATION_FORMS`; None: told by the records.
        split: of a folder or data set that has several; None: the one for training.
        limit: read only so many examples.
        say: hears what was read and every kind of problem, once.

    Raises:
        DataError: nothing usable, or a damaged file.
        SetupError: the hub cannot be reached, or a package is missing.
        ConfigError: no such form or split.
    """
    return read_examples(source, CONVERSATION_FORMS, SFT_SPLITS, form=form, split=split, limit=limit, say=say)


def read_preferences(
    source: str | Path, *, form: str | None = None, split: str | None = None, limit: int | None = None, say: Say
) -> Examples[Preference]:
    """Pairs of a better and a worse continuation; arguments and errors as `read_conversations`."""
    return read_examples(source, PREFERENCES, PREFERENCE_SPLITS, form=form, split=split, limit=limit, say=say)


def read_labelled(
    source: str | Path, *, form: str | None = None, split: str | None = None, limit: int | None = None, say: Say
) -> Examples[Labelled]:
    """Continuations that were judged good or bad; a preference gives one of each. As `read_conversations`."""
    return read_examples(source, LABELLED_FORMS, PREFERENCE_SPLITS, form=form, split=split, limit=limit, say=say)


def read_prompts(
    source: str | Path, *, form: str | None = None, split: str | None = None, limit: int | None = None, say: Say
) -> Examples[Prompt]:
    """Prompts with the answers that can be checked, as `read_conversations`; so are the lines of a .txt file."""
    return read_examples(source, {"prompt": PROMPT}, SFT_SPLITS, form=form, split=split, limit=limit, say=say)


def read_examples(
    source: str | Path,
    forms: Mapping[str, Form[T]],
    splits: Sequence[str],
    *,
    form: str | None,
    split: str | None,
    limit: int | None,
    say: Say,
) -> Examples[T]:
    """Read with one of `forms`; see `read_conversations`."""
    if form is not None and form not in forms:
        raise UnknownNameError("form", form, forms)
    found: Iterator[Found]
    if is_collected(source):
        found = collected_records(str(source), labelled=forms is LABELLED_FORMS)
    elif isinstance(source, str) and is_hub_id(source):
        found = hub_records(source, split, splits, limit)
    elif "prompt" in forms and is_text_file(source):
        found = lines_of_text(Path(source))
    else:
        found = local_records(Path(source), split)
    first = list(itertools.islice(found, LOOKED_AT))
    chosen, reason = (forms[form], "asked for") if form is not None else told(first, forms, str(source))
    items: list[T] = []
    problems: list[Problem] = []
    unread: Counter[str] = Counter()
    for one in itertools.chain(first, found):
        if limit is not None and len(items) >= limit:
            break
        if isinstance(one, Problem):
            problems.append(one)
            continue
        origin, record = one
        try:
            items += chosen.read(record_of(record), origin)
        except Unusable as problem:
            problems.append(Problem(problem.kind, origin, problem.what))
        else:
            unread.update(name for name in record_of(record) if name not in chosen.fields)
    examples = Examples(
        items=tuple(items if limit is None else items[:limit]),
        source=str(source),
        form=chosen.name,
        reason=reason,
        problems=tuple(problems),
        unread=dict(unread.most_common()),
    )
    if not items:
        raise DataError(
            f"nothing usable in {source} as {chosen.name}: {len(problems):,} records were left out"
            + (f"; the first: {problems[0]}" if problems else ""),
            hint=f"correct the file, or name its form with --form: {', '.join(forms)}",
        )
    say(str(examples))
    return examples


def record_of(record: Any) -> Record:
    """The record as a mapping: a text alone is one with a text.

    Raises:
        Unusable: a number, a list.
    """
    if isinstance(record, str):
        return {"text": record}
    if not isinstance(record, Mapping):
        raise Unusable("not a conversation", f"the record is not an object but {type(record).__name__}")
    return record


def shown_names(names: Iterable[str]) -> str:
    """The first of these names."""
    names = list(names)
    return (", ".join(names[:SHOWN_FIELDS]) + (", …" if len(names) > SHOWN_FIELDS else "")) or "none"


def told(first: Sequence[Found], forms: Mapping[str, Form[T]], source: str) -> tuple[Form[T], str]:
    """The form that most of the first records have, and what shows it; the first of `forms` wins where two fit.

    Raises:
        DataError: none fits any record.
    """
    votes: Counter[str] = Counter()
    shown: dict[str, str] = {}
    fields: dict[str, None] = {}
    for one in first:
        if isinstance(one, Problem):
            continue
        try:
            record = record_of(one[1])
        except Unusable:
            continue
        fields |= dict.fromkeys(record)
        for name, form in forms.items():
            if (sign := form.told_by(record)) is not None:
                votes[name] += 1
                shown.setdefault(name, sign)
                break
    if not first:
        raise DataError(f"{source} holds no record", hint="each line of a .jsonl file is one JSON object")
    if not votes:
        raise DataError(
            f"{source} is in no form that is known here; its fields: {shown_names(fields)}",
            hint=f"known: {', '.join(forms)}; name one with --form to see what is missing in each record",
        )
    name = votes.most_common(1)[0][0]
    return forms[name], shown[name]
