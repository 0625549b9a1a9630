"""Wikitext to plain text: paragraphs, headings and lists stay; templates, tables, files and references go.

Not a renderer: templates are not expanded, except a few whose argument is text (`INLINE_TEMPLATES`). Every step is one
pass over the text, so that no page, however odd, takes more than linear time.
"""

from __future__ import annotations

import html
import re

COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", flags=re.DOTALL)
DROPPED_TAGS = "ref|gallery|timeline|imagemap|score|templatedata|mapframe|graph|hiero|inputbox"
SELF_CLOSED = re.compile(rf"<(?:{DROPPED_TAGS}|references|br|hr|section)\b[^<>]*?/>", flags=re.IGNORECASE)
OPENING_OR_CLOSING = re.compile(rf"<(/?)({DROPPED_TAGS})\b[^<>]*>", flags=re.IGNORECASE)
VERBATIM_TAG = re.compile(r"<(/?)(math|nowiki|pre|source|syntaxhighlight|code)\b[^<>]*>", flags=re.IGNORECASE)
ASIDE = re.compile(r"\0(\d+)\0")
OTHER_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
BRACES = re.compile(r"\{\{|\}\}|(?:(?<=\n)|\A)[ \t:]*\{\||\n[ \t]*\|\}(?!\})")
BRACKETS = re.compile(r"\[\[|\]\]")
EXTERNAL_LINK = re.compile(r"\[(?:https?:|ftp:)?//[^\s\[\]]*+ *+([^\[\]\n]*+)\]")
HEADING = re.compile(r"^(={1,6})[ \t]*(.+?)[ \t]*\1[ \t]*$", flags=re.MULTILINE)
EMPHASIS = re.compile(r"'{2,}")
MAGIC_WORD = re.compile(r"__[A-Z]{3,}__")
LIST_ITEM = re.compile(r"^[*#:;]+[ \t]*", flags=re.MULTILINE)
EMPTY_BRACKETS = re.compile(r"[ \t]*\((?:[ \t]*[,;][ \t]*|[ \t]+)*\)")
BLANKS = re.compile(r"[ \t\u00a0]+")
BLANK_LINES = re.compile(r"\n{3,}")
LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z]+)*|simple")
DROPPED_NAMESPACES = frozenset({"file", "image", "category", "media"})
DEEPEST = 40
"""Templates and links nested deeper are text, so that the time stays linear."""
LAST_SECTIONS = re.compile(
    r"^={2}[ \t]*(?:references|external links|see also|notes|further reading|bibliography|sources)[ \t]*={2}[ \t]*$",
    flags=re.MULTILINE | re.IGNORECASE,
)
INLINE_TEMPLATES = {
    "convert": 2,
    "cvt": 2,
    "lang": -1,
    "transl": -1,
    "nowrap": 1,
    "nobr": 1,
    "abbr": 1,
    "quote": 1,
    "blockquote": 1,
    "small": 1,
    "math": 1,
    "mvar": 1,
    "val": 1,
}
"""Templates whose text stays: how many of their first arguments; -1 for the last one."""


def plain_wikitext(text: str, *, dropped: frozenset[str] = DROPPED_NAMESPACES) -> str:
    """The readable text of a page, without a line end at its end.

    Args:
        text: of the page's revision.
        dropped: names of the namespaces, in lower case, whose links show no text: files and categories.

    >>> plain_wikitext("'''Anarchism''' is a [[Political philosophy|philosophy]]<ref>x</ref>.\\n\\n== History ==\\n* a")
    'Anarchism is a philosophy.\\n\\nHistory\\n- a'
    """
    text, verbatim = set_aside(COMMENT.sub("", text.replace("\0", "")))
    text = BLANKS.sub(" ", text)
    text = without_tags(text)
    text = without_templates(text)
    text = with_plain_links(text, dropped)
    text = EXTERNAL_LINK.sub(r"\1", text)
    text = without_last_sections(text)
    text = HEADING.sub(r"\n\2", text)
    text = OTHER_TAG.sub("", MAGIC_WORD.sub("", EMPHASIS.sub("", text)))
    text = html.unescape(text)
    text = LIST_ITEM.sub(lambda found: "- " if found[0][0] in "*#" else "", text)
    text = EMPTY_BRACKETS.sub("", text)
    lines = (BLANKS.sub(" ", line).strip() for line in text.split("\n"))
    text = "\n".join(line for line in lines if line != "-")
    text = BLANK_LINES.sub("\n\n", text)
    return ASIDE.sub(lambda found: verbatim[int(found[1])], text).strip()


def set_aside(text: str) -> tuple[str, list[str]]:
    """Replace formulas, code and other elements whose text is no wikitext by numbered marks, and give their text."""
    kept: list[str] = []
    verbatim: list[str] = []
    position, start, inside = 0, 0, ""
    for tag in VERBATIM_TAG.finditer(text):
        name = tag[2].lower()
        if not inside and not tag[1] and not tag[0].endswith("/>"):
            kept.append(text[position : tag.start()])
            position, start, inside = tag.start(), tag.end(), name
        elif tag[1] and name == inside:
            content = html.unescape(text[start : tag.start()])
            kept.append(f"\0{len(verbatim)}\0")
            verbatim.append(f"${content.strip()}$" if name == "math" else content)
            position, inside = tag.end(), ""
    return "".join([*kept, text[position:]]), verbatim


def without_tags(text: str) -> str:
    """Leave out references, galleries and other elements that are no running text, with what they hold."""
    text = SELF_CLOSED.sub("", text)
    kept: list[str] = []
    position, inside = 0, ""
    for tag in OPENING_OR_CLOSING.finditer(text):
        name = tag[2].lower()
        if not inside:
            kept.append(text[position : tag.start()])
            position = tag.end()
            inside = "" if tag[1] else name
        elif tag[1] and name == inside:
            position, inside = tag.end(), ""
    kept.append(text[position:])  # of an element that is never closed only the tag itself goes
    return "".join(kept)


def without_templates(text: str) -> str:
    """Leave out templates and tables, nested ones with what is around them; unbalanced marks are text."""
    stack: list[tuple[str, list[str]]] = [("", [])]
    position = 0
    for mark in BRACES.finditer(text):
        stack[-1][1].append(text[position : mark.start()])
        position = mark.end()
        kind = mark[0]
        if kind == "{{" or kind.endswith("{|"):
            if len(stack) <= DEEPEST:
                stack.append((kind, []))
        elif len(stack) > 1 and (stack[-1][0] == "{{") == (kind == "}}"):
            opening, parts = stack.pop()
            if opening == "{{":
                stack[-1][1].append(inline_text("".join(parts)))
    stack[-1][1].append(text[position:])
    return "".join("".join(parts) for _, parts in stack)  # what stands in one that is never closed is text after all


def inline_text(template: str) -> str:
    """What stays of a template.

    >>> inline_text("convert|5|km|mi"), inline_text("lang|fr|mot"), inline_text("Infobox|name=x")
    ('5 km', 'mot', '')
    """
    name, *arguments = template.split("|")
    name = name.strip().lower()
    count = -1 if name.startswith("lang-") else INLINE_TEMPLATES.get(name, 0)
    values = [value.strip() for value in arguments if "=" not in value]
    return " ".join(values[:count] if count > 0 else values[-1:] if count else [])


def with_plain_links(text: str, dropped: frozenset[str] = DROPPED_NAMESPACES) -> str:
    """`[[page|words]]` becomes `words`; files, categories and links to other languages go, whatever they hold."""
    stack: list[list[str]] = [[]]
    position = 0
    for mark in BRACKETS.finditer(text):
        stack[-1].append(text[position : mark.start()])
        position = mark.end()
        if mark[0] == "[[":
            if len(stack) <= DEEPEST:
                stack.append([])
        elif len(stack) > 1:
            link = "".join(stack.pop())
            stack[-1].append(link_text(link, dropped))
    stack[-1].append(text[position:])
    return "".join(map("".join, stack))


def link_text(link: str, dropped: frozenset[str] = DROPPED_NAMESPACES) -> str:
    """What a reader sees of a link.

    >>> link_text("Paris"), link_text("Paris|the city"), link_text("File:a.png|thumb|A map"), link_text("Star Trek: X")
    ('Paris', 'the city', '', 'Star Trek: X')
    """
    target, bar, words = link.partition("|")
    prefix, colon, _ = target.partition(":")
    prefix = prefix.strip()
    if colon and prefix and (prefix.lower() in dropped or LANGUAGE.fullmatch(prefix)):
        return ""
    return words.rpartition("|")[2] if bar else target.lstrip(":")


def without_last_sections(text: str) -> str:
    """Cut at the first closing section (references, links, notes) that only such sections follow."""
    end = len(text)
    found = list(LAST_SECTIONS.finditer(text))
    others = [match.start() for match in re.finditer(r"^={2}[^=\n].*$", text, flags=re.MULTILINE)]
    closing = {match.start() for match in found}
    for start in reversed(others):
        if start not in closing:
            break
        end = start
    return text[:end]
