"""What happens now, what came out, what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mamba_slm.dashboard.page.layout import PAGES, Place, command_line, page, section
from mamba_slm.dashboard.page.markup import Markup, tag

MINUTES = 5
"""Of a quick run."""


def home_page(place: Place, homes: Sequence[Path]) -> str:
    """The first page; its script fills it."""
    where = [tag("li", tag("code", str(home.resolve()))) for home in homes]
    return page(
        place,
        "",
        "Home",
        tag("h1", "Home", class_="unseen"),
        section(
            "Running now", tag("div", tag("p", "looking …", class_="hint"), id="running", class_="cards"), id="now"
        ),
        section("Needs you", tag("div", id="broken", class_="cards"), id="needs"),
        section("Next step", tag("ol", id="path", class_="path"), next_step(place), id="next"),
        section("Last results", tag("div", id="results", class_="cards"), id="last"),
        section("Jobs", tag("div", id="jobs"), id="queue"),
        section("Where the runs are", tag("ul", where), id="homes"),
        script="home.js",
        style="home.css",
        pages=" ".join(PAGES),
    )


def next_step(place: Place) -> Markup:
    """The command of the step that comes next, and what does all of them at once."""
    start = tag("button", f"Start a quick run ({MINUTES} min)", type="button", id="quick")
    words = tag("span", "from text to a small model that talks, and its report, on any machine", class_="hint")
    return tag(
        "div",
        tag("p", tag("span", "", id="next-words"), " In a terminal:", id="next-line", hidden=True),
        command_line(None, id="next-command"),
        None if place.is_read_only else tag("div", start, words, class_="controls quick"),
    )
