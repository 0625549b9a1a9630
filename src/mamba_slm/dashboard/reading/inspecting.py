"""A page of documents for the eye: cut to what a browser shows, with tokens where a vocabulary was chosen."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamba_slm.core.errors import DataError, MambaSlmError
from mamba_slm.dashboard.reading.cursors import Cursors
from mamba_slm.dashboard.reading.documents import Item, Opened, open_source, said
from mamba_slm.dashboard.reading.facts import version_of
from mamba_slm.dashboard.reading.likeness import LEAST, Likeness
from mamba_slm.dashboard.reading.tokens import as_shown, of_document, tokenizer_at

if TYPE_CHECKING:
    from mamba_slm.dashboard.actions import TunedTokens
    from mamba_slm.data.conversations.example import Conversation

MOST_SHOWN = 20
MOST_CHARACTERS = 12_000
MOST_TOKENS = 4000
BEFORE_A_FIND = 400
"""Characters shown before what was searched, in a text that is cut."""
Encode = Callable[["Conversation", Path, str], "TunedTokens"]


@dataclass(frozen=True, kw_only=True)
class Look:
    """What somebody wants to see."""

    path: Path
    tokenizer: Path | None = None
    train_on: str = "answers"
    first: int = 0
    most: int = 5
    search: str = ""
    like: int | None = None
    """The number of a document: only those are wanted that are like it."""
    text_key: str = "text"


class Inspector:
    """Reads pages; what was read last stays open.

    Args:
        shows: whether a file may be shown.
        encode: gives the tokens of a conversation and which are learned, as fine-tuning does.
    """

    def __init__(self, shows: Callable[[Path], bool], encode: Encode):
        self.shows, self.encode = shows, encode
        self.cursors: Cursors[Item] = Cursors()
        self.compared: tuple[Hashable, Likeness] = (None, Likeness(""))
        """What documents were compared with last."""

    def read(self, look: Look) -> dict[str, Any]:
        """A page.

        Raises:
            MambaSlmError: nothing to read there, no vocabulary, or one that does not fit.
        """
        tokenizer = tokenizer_at(look.tokenizer) if look.tokenizer else None
        source = open_source(look.path, shows=self.shows, tokenizer=tokenizer, text_key=look.text_key)
        wanted = look.search.casefold()
        vocabulary = (str(look.tokenizer), version_of(look.tokenizer)) if look.tokenizer else None
        key = (str(look.path), source.version, look.text_key, vocabulary)
        likeness = None if look.like is None else self.likeness_to(look.like, key, source)

        def is_wanted(item: Item) -> bool:
            holds = wanted in item.text.casefold() or wanted in item.id.casefold()
            return holds and (likeness is None or likeness.of(item.text) >= LEAST)

        most = min(max(look.most, 1), MOST_SHOWN)
        page = self.cursors.read(key, source.begin, first=look.first, most=most, is_wanted=is_wanted)
        return {
            "kind": source.kind,
            "form": source.form,
            "count": source.count,
            "rows": [
                self.row(number, item, look) | {"similarity": likeness.of(item.text) if likeness else None}
                for number, item in page.items
            ],
            "next": page.next,
            "is_end": page.is_end,
        }

    def likeness_to(self, number: int, key: tuple[Hashable, ...], source: Opened) -> Likeness:
        """What compares others with a document; kept, as page after page compares with the same one.

        Raises:
            DataError: there is no such document.
        """
        known, likeness = self.compared
        if known != (key, number):
            found = self.cursors.read(key, source.begin, first=number, most=1, is_wanted=lambda _: True).items
            if not found:
                raise DataError(
                    f"there is no document {number + 1:,} to compare with", hint="show all, and choose another"
                )
            likeness = Likeness(found[0][1].text)
            self.compared = (key, number), likeness
        return likeness

    def row(self, number: int, item: Item, look: Look) -> dict[str, Any]:
        """A document as the page gets it."""
        begin = cut_begin(item.text, look.search)
        text = item.text[begin : begin + MOST_CHARACTERS]
        row: dict[str, Any] = {
            "number": number,
            "id": item.id,
            "text": text,
            "begin": begin,
            "characters": len(item.text),
            "raw": None if item.raw is None else item.raw[:MOST_CHARACTERS],
            "problem": item.problem,
            "metadata": {str(key): str(value)[:200] for key, value in list(item.metadata.items())[:8]},
            "messages": None,
            "tokens": None,
            "num_tokens": None if item.ids is None else len(item.ids),
            "is_part": False,
        }
        if item.conversation is not None and not item.conversation.is_plain:
            row["messages"] = [
                {"role": one["role"], "content": one["content"][:MOST_CHARACTERS]} for one in item.conversation.messages
            ]
        if look.tokenizer is not None and item.problem is None:
            try:
                row |= self.tokens_of(item, text, begin, look, look.tokenizer)
            except MambaSlmError as error:
                row["problem"] = said(error)
        return row

    def tokens_of(self, item: Item, text: str, begin: int, look: Look, vocabulary: Path) -> dict[str, Any]:
        """The tokens, and which of them are learned: of text each but the first."""
        if item.conversation is not None:
            found = self.encode(item.conversation, vocabulary, look.train_on)
            tokenizer, ids, trained, template = found.tokenizer, found.tokens, found.trained, found.template
            is_whole = True
        else:
            tokenizer, template = tokenizer_at(vocabulary), None
            is_whole = bool(item.ids) or (not begin and len(text) == len(item.text))
            ids = item.ids or of_document(tokenizer, text, is_whole=is_whole)
            trained = (False, *([True] * (len(ids) - 1)))
        return {
            "tokens": as_shown(tokenizer, ids[:MOST_TOKENS]),
            "trained": [int(each) for each in trained[:MOST_TOKENS]],
            "num_tokens": len(ids),
            "is_part": not is_whole,
            "num_trained": sum(trained),
            "template": template,
        }


def cut_begin(text: str, search: str) -> int:
    """Where the shown part of a text begins: at its beginning, unless what was searched stands too far behind.

    >>> cut_begin("x" * 50_000 + "needle", "needle"), cut_begin("needle" + "x" * 50_000, "needle")
    (49600, 0)
    """
    if not search or len(text) <= MOST_CHARACTERS:
        return 0
    found = text.casefold().find(search.casefold())
    return 0 if found < MOST_CHARACTERS - BEFORE_A_FIND else found - BEFORE_A_FIND
