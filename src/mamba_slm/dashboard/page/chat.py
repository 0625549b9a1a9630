"""Conversations with one to four models beside each other."""

from __future__ import annotations

from mamba_slm.dashboard.page.layout import Place, page, section
from mamba_slm.dashboard.page.markup import Markup, tag

NUMBERS = (
    ("temperature", "Temperature", "0.8", "0", "5", "0.05"),
    ("top_p", "Top-p", "0.95", "0", "1", "0.01"),
    ("max_tokens", "Tokens at most", "200", "1", "100000", "1"),
    ("seed", "Seed", "1", "0", "2147483647", "1"),
)


def chat_page(place: Place) -> str:
    """The page; its script talks."""
    return page(
        place,
        "chat",
        "Chat",
        tag("h1", "Chat"),
        section("Models", models(), id="models"),
        section("Settings", settings(), id="settings"),
        section("Conversation", conversation(place), id="conversation", class_="wide"),
        script="chat.js",
    )


def models() -> Markup:
    """Choose up to four; start a server where there is none."""
    return tag(
        "div",
        tag("div", id="choices", class_="cards"),
        tag(
            "details",
            tag("summary", "A server at another address"),
            tag(
                "form",
                tag("input", name="address", placeholder="http://localhost:8000", aria_label="Address", size="30"),
                tag(
                    "input",
                    name="key",
                    type="password",
                    autocomplete="off",
                    placeholder="key, if it wants one",
                    aria_label="Key",
                ),
                tag("button", "Add", class_="quiet"),
                id="elsewhere",
                class_="uses",
            ),
        ),
    )


def settings() -> Markup:
    """What holds for every pane."""
    numbers = [
        tag("label", f"{title} ", tag("input", type="number", id=name, value=value, min=least, max=most, step=step))
        for name, title, value, least, most, step in NUMBERS
    ]
    system = tag("textarea", "", id="system", rows="1", aria_label="System prompt", placeholder="system prompt (none)")
    return tag("div", tag("div", numbers, class_="controls"), system, class_="form")


def conversation(place: Place) -> Markup:
    """The panes, and what is typed."""
    return tag(
        "div",
        tag(
            "div",
            tag("label", "Conversation ", tag("select", id="which")),
            tag("button", "New", type="button", id="new", class_="quiet"),
            tag("button", "Export", type="button", id="export", class_="quiet"),
            tag("button", "Import", type="button", id="import", class_="quiet"),
            tag("input", type="file", id="import-file", accept=".json,application/json", hidden=True),
            tag("a", "Rated answers", href=place.url("rate#set=0/chat")),
            class_="controls",
        ),
        tag("div", id="panes", class_="panes"),
        tag(
            "form",
            tag("textarea", "", id="message-text", rows="2", aria_label="Message", placeholder="Message …"),
            tag("button", "Send", id="send"),
            tag("button", "Stop", type="button", id="halt", class_="quiet", hidden=True),
            id="say",
            class_="say",
        ),
        tag("p", "Enter sends, Shift-Enter begins a line, Escape stops.", class_="hint"),
    )
