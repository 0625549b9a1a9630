"""Reads an HTML page as strictly as a careful reader would: tags balanced, ids unique, and what it asks for listed."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "input", "br", "hr", "img", "link", "wbr"}
LOADING = {"src", "srcset", "data", "poster", "action", "formaction", "background", "ping", "manifest", "xlink:href"}


@dataclass
class Page(HTMLParser):
    """What a page holds."""

    text: str
    ids: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str, str]] = field(default_factory=list)
    """Tag, name, value."""
    errors: list[str] = field(default_factory=list)
    inside: dict[str, list[str]] = field(default_factory=dict)
    """Tag -> the texts directly in its elements."""

    def __post_init__(self):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.feed(self.text)
        self.close()
        self.errors += [f"<{tag}> is never closed" for tag in self.open]

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        names = [name for name, _ in attrs]
        self.errors += [f"<{tag}> has {name} twice" for name in set(names) if names.count(name) > 1]
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)
            self.inside.setdefault(tag, []).append("")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open[-1] != tag:
            self.errors.append(f"</{tag}> at {self.getpos()} closes {self.open[-1:]}")
        else:
            self.open.pop()

    def handle_data(self, data):
        if self.open:
            self.inside[self.open[-1]][-1] += data

    def values(self, attribute):
        """Every value of an attribute."""
        return [value for _, name, value in self.attributes if name == attribute]

    def requests(self):
        """What a browser would fetch on opening the page."""
        linked = [value for tag, name, value in self.attributes if tag in ("link", "use", "image") and name == "href"]
        return [value for _, name, value in self.attributes if name in LOADING] + linked

    def visible(self):
        """All text, with runs of whitespace as one space."""
        texts = [
            text for tag, all_of_tag in self.inside.items() if tag not in ("script", "style") for text in all_of_tag
        ]
        return " ".join(" ".join(texts).split())
