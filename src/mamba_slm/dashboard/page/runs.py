"""All runs: filter, overlay, compare."""

from __future__ import annotations

from mamba_slm.dashboard.page.layout import Place, page, section
from mamba_slm.dashboard.page.markup import Markup, tag

COLUMNS = ("run", "state", "step", "tokens", "time", "loss", "validation", "bits/byte", "notes")


def runs_page(place: Place) -> str:
    """The list; its script fills it, and draws the runs that are chosen over each other."""
    return page(
        place,
        "runs",
        "Runs",
        tag("h1", "Runs"),
        tag(
            "div",
            tag(
                "label",
                "Filter ",
                tag(
                    "input",
                    type="search",
                    id="filter",
                    placeholder="name, state:done, kind:train, tag:best, loss<3",
                    size="46",
                ),
            ),
            tag("span", "", id="count", role="status"),
            class_="controls",
        ),
        listing(),
        section("Chosen runs over each other", overlay(), id="overlay"),
        section(
            "Settings that differ",
            tag("div", tag("table", id="difference"), class_="scroll", tabindex="0"),
            id="settings",
        ),
        script="runs.js",
    )


def listing() -> Markup:
    """The table of runs."""
    header = tag(
        "tr",
        tag("th", tag("span", "choose", class_="unseen"), scope="col"),
        [
            tag(
                "th",
                tag("button", name, type="button", class_="sort", data_by=name),
                scope="col",
                class_=None if name in ("run", "state", "notes") else "number",
            )
            for name in COLUMNS
        ],
    )
    return tag(
        "div",
        tag(
            "table",
            tag("caption", "Every run of these homes", class_="unseen"),
            tag("thead", header),
            tag("tbody", id="rows"),
        ),
        class_="scroll",
        tabindex="0",
    )


def overlay() -> Markup:
    """One chart for the chosen runs."""
    axes = (("step", "step"), ("tokens", "tokens"), ("seconds", "time"), ("cost", "cost"))
    measures = (
        ("loss", "loss"), ("validation", "validation"), ("learning_rate", "learning rate"),
        ("grad_norm", "gradient norm"), ("tokens_per_second", "tokens/s"),
    )  # fmt: skip
    return tag(
        "div",
        tag(
            "div",
            tag(
                "label",
                "Show ",
                tag("select", [tag("option", text, value=value) for value, text in measures], id="measure"),
            ),
            tag(
                "label", "along ", tag("select", [tag("option", text, value=value) for value, text in axes], id="axis")
            ),
            tag(
                "label",
                "Smoothing ",
                tag("input", type="range", id="smoothing", min="0", max="0.98", step="0.02", value="0.6"),
            ),
            tag("label", tag("input", type="checkbox", id="logarithmic"), " logarithmic"),
            class_="controls",
        ),
        tag("p", "Choose runs in the table above.", id="overlay-hint", class_="hint"),
        tag(
            "figure",
            tag("canvas", id="overlay-chart", tabindex="0", role="img", aria_label="Chosen runs over each other"),
            tag("figcaption", tag("ul", id="legend", class_="legend")),
            class_="chart tall",
            id="overlay-figure",
            hidden=True,
        ),
    )
