"""What every page has: head, navigation, a place for messages. No inline script or style, no address but our own."""

from __future__ import annotations

from dataclasses import dataclass

from mamba_slm import __version__
from mamba_slm.dashboard.page.markup import Child, Markup, tag

PAGES = {
    "": ("Home", "h"),
    "data": ("Data", "d"),
    "train": ("Train", "t"),
    "tune": ("Fine-tune", "f"),
    "runs": ("Runs", "r"),
    "models": ("Models", "m"),
    "chat": ("Chat", "c"),
    "rate": ("Rate", "a"),
    "evaluate": ("Evaluate", "e"),
    "serve": ("Serve", "s"),
    "system": ("System", "y"),
}
"""Address below the root -> name in the navigation, and the key that goes there after `g`."""


@dataclass(frozen=True)
class Place:
    """Where the pages are, so that they can point to each other."""

    root: str
    """The proxy's path, or nothing."""
    assets: str
    """Address of the folder of scripts and styles; changes with their content."""
    is_read_only: bool = False

    def url(self, path: str = "") -> str:
        """The address of a page or an answer."""
        return f"{self.root}/{path}"

    def asset(self, name: str) -> str:
        """The address of a script or style."""
        return f"{self.assets}/{name}"


def page(
    place: Place,
    here: str,
    title: str,
    *content: Child,
    script: str | None = None,
    style: str | None = None,
    **data: object,
) -> str:
    """A whole document.

    Args:
        here: the key in `PAGES` that the page belongs to.
        script: module of `assets/` that makes the page live; it finds `data` in the dataset of `<main>`.
        style: of `assets/`, what this page needs besides page.css.
    """
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title} · mamba-slm"),
        tag("link", rel="icon", href=place.asset("icon.svg"), type="image/svg+xml"),
        tag("link", rel="stylesheet", href=place.asset("page.css")),
        None if style is None else tag("link", rel="stylesheet", href=place.asset(style)),
        tag("script", src=place.asset("theme.js")),  # before anything is drawn, or the page flashes
        tag("script", type="module", src=place.asset("shell.js")),
        tag("script", type="module", src=place.asset("machine.js")),
        None if script is None else tag("script", type="module", src=place.asset(script)),
    )
    links = [
        tag(
            "a",
            name,
            href=place.url(path),
            aria_current="page" if path == here else None,
            data_key=key,
            title=f"g then {key}",
        )
        for path, (name, key) in PAGES.items()
    ]
    find = tag(
        "button", "Find", type="button", id="find", class_="quiet", title="Ctrl-K", aria_keyshortcuts="Control+K"
    )
    theme = tag("button", "Theme", type="button", id="theme", class_="quiet", title="light, dark, or as the system")
    header = tag(
        "header",
        tag("a", "Skip to content", href="#content", class_="skip"),
        tag("a", "mamba-slm", href=place.url(), class_="brand", title=f"version {__version__}"),
        tag("nav", links, aria_label="Pages"),
        tag("a", "", href=place.url("system"), id="machine", title="this machine", hidden=True),
        tag("span", "read only", class_="badge") if place.is_read_only else None,
        tag("div", find, theme, class_="tools"),
    )
    body = tag(
        "body",
        header,
        tag("div", role="status", aria_live="polite", id="message", hidden=True),
        tag(
            "main",
            content,
            id="content",
            tabindex="-1",
            data_root=place.root,
            **prefixed({"read_only": "yes" if place.is_read_only else "no", **data}),
        ),
        tag("footer", tag("span", f"mamba-slm {__version__}"), tag("span", "loads nothing from elsewhere")),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}"


def prefixed(data: dict[str, object]) -> dict[str, object]:
    """Names of the dataset."""
    return {f"data_{key}": value for key, value in data.items()}


def section(title: str, *content: Child, id: str | None = None, class_: str | None = None, level: int = 2) -> Markup:
    """A part of a page with its heading."""
    name = f"{id}-title" if id else None
    return tag("section", tag(f"h{level}", title, id=name), content, id=id, class_=class_, aria_labelledby=name)


def command_line(command: str | None, *, id: str | None = None) -> Markup:
    """A command with a button that copies it."""
    return tag(
        "div",
        tag("code", command or "", tabindex="0"),
        tag("button", "Copy", type="button", class_="copy quiet", aria_label="Copy the command"),
        class_="command",
        id=id,
        hidden=command is None,
    )
