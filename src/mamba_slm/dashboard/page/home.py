"""What happens now, what came out, what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mamba_slm.dashboard.page.layout import Place, command_line, page, section
from mamba_slm.dashboard.page.markup import tag

NEXT = (
    ("From text to a model that talks, in minutes", "mamba-slm quickstart"),
    ("What this machine has and lacks", "mamba-slm doctor"),
    ("The sizes, and what they take", "mamba-slm models list"),
)


def home_page(place: Place, homes: Sequence[Path]) -> str:
    """The first page; its script fills it."""
    steps = [tag("li", tag("span", what), command_line(command)) for what, command in NEXT]
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
        section("Last results", tag("div", id="results", class_="cards"), id="last"),
        section("Jobs", tag("div", id="jobs"), id="queue"),
        section("Next steps", tag("ol", steps, class_="steps"), id="next"),
        section("Where the runs are", tag("ul", where), id="homes"),
        script="home.js",
    )
