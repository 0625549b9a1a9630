"""Data: what lies here, and the way to its other pages."""

from __future__ import annotations

from mamba_slm.dashboard.page.layout import Place, page, section
from mamba_slm.dashboard.page.markup import Child, Markup, tag

PARTS = {
    "data": "Library",
    "data/inspect": "Inspect",
    "data/curate": "Curate",
    "data/tokenize": "Tokenize",
    "data/mix": "Mix",
}


def data_page(place: Place, part: str, title: str, *content: Child, script: str) -> str:
    """One of the pages about data, with links to the others under its heading."""
    links = [
        tag("a", name, href=place.url(path), aria_current="page" if path == part else None)
        for path, name in PARTS.items()
    ]
    heading = tag(
        "div", tag("h1", title), tag("nav", links, class_="parts-of-page", aria_label="Data"), class_="heading"
    )
    return page(place, "data", title, heading, *content, script=script, style="data.css")


def library_page(place: Place) -> str:
    """What can be trained on; its script fills the tables."""
    found = ("Where", "What", "Documents", "Tokens", "Size", "Licence", "")
    public = ("Name", "What", "Tokens", "Size", "Licence", "Get it")
    return data_page(
        place,
        "data",
        "Data",
        section(
            "Here",
            tag("p", "looking …", id="library-hint", class_="hint"),
            table("Texts and tokens on this machine", found, "found"),
            id="here",
        ),
        section(
            "Public data sets",
            tag(
                "p",
                "Sizes and licences are those that the publishers state. A download continues where it stopped.",
                class_="hint",
            ),
            table("Public data sets", public, "presets"),
            id="public",
        ),
        section("Started from here", tag("div", id="jobs", class_="cards"), id="started"),
        script="data.js",
    )


def table(caption: str, columns: tuple[str, ...], id: str) -> Markup:
    """A table that a script fills; it scrolls sideways inside its frame."""
    numbers = ("Documents", "Tokens", "Size", "Share", "Takes", "Of", "Epochs", "Removed")
    head = [
        tag(
            "th",
            name or tag("span", "Actions", class_="unseen"),
            scope="col",
            class_="number" if name in numbers else None,
        )
        for name in columns
    ]
    inner = tag(
        "table",
        tag("caption", caption, class_="unseen"),
        tag("thead", tag("tr", head)),
        tag("tbody", id=id),
    )
    return tag("div", inner, class_="scroll", tabindex="0", role="region", aria_label=caption)
