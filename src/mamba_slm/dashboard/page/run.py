"""One run, live."""

from __future__ import annotations

from urllib.parse import quote

from mamba_slm.dashboard.page.layout import Place, command_line, page, section
from mamba_slm.dashboard.page.markup import Markup, tag
from mamba_slm.dashboard.reading.facts import Facts
from mamba_slm.dashboard.reading.library import RunKey

CHARTS = (
    ("loss", "Loss", "nats"),
    ("validation", "Validation", ("nats", "bits per byte")),
    ("learning_rate", "Learning rate", ""),
    ("grad_norm", "Gradient norm", "before clipping"),
    ("tokens_per_second", "Tokens per second", ""),
    ("memory_bytes", "Memory", ""),
    ("mfu", "MFU", "share of the machine's peak"),
)
"""Key of the numbers, title, unit; where there are two lines, the unit of each."""

FIGURES = (
    ("loss", "loss"),
    ("validation_loss", "validation"),
    ("bits_per_byte", "bits/byte"),
    ("learning_rate", "learning rate"),
    ("grad_norm", "gradient norm"),
    ("tokens_per_second", "tokens/s"),
    ("mfu", "MFU"),
    ("memory_bytes", "memory"),
    ("seconds", "time"),
    ("cost_usd", "cost"),
)


def run_page(place: Place, key: RunKey, facts: Facts, config_text: str) -> str:
    """The page of a run; its script fills in the numbers and keeps them fresh."""
    title = str(facts["name"])
    return page(
        place,
        "runs",
        title,
        heading(place, key, title, facts),
        command_line(facts["command"], id="command"),
        trouble(place),
        figures(),
        charts(),
        section("Samples", flip_book(), id="samples"),
        tag(
            "div",
            section("What happened", tag("ol", id="event-list", class_="events"), id="events"),
            section("Checkpoints", checkpoint_table(), id="checkpoints"),
            class_="halves",
        ),
        section("Log", tag("pre", id="log-text", tabindex="0", role="log", aria_label="End of the log"), id="log"),
        tag(
            "details",
            tag("summary", "Settings of this run"),
            tag("pre", config_text or "no config.yaml", tabindex="0", aria_label="Settings"),
        ),
        script="run.js",
        home=key.home,
        name=key.name,
    )


def heading(place: Place, key: RunKey, title: str, facts: Facts) -> Markup:
    """Name, state, progress, and what can be done."""
    actions = [
        tag("button", "Stop", type="button", id="stop", hidden=True, title="finish the step, save and end"),
        tag("button", "Resume", type="button", id="resume", hidden=True),
    ]
    return tag(
        "div",
        tag("h1", title),
        tag("span", facts["state"], id="state", class_="state", data_state=facts["state"]),
        tag("span", "", id="progress-text"),
        tag("progress", "", id="progress", max="1", value="0", aria_label="Steps taken"),
        tag("a", "Report card", href=place.url(f"runs/{key.home}/{quote(key.name, safe='')}/report"), id="report"),
        None if place.is_read_only else tag("div", actions, class_="actions"),
        class_="heading",
    )


def trouble(place: Place) -> Markup:
    """What is shown when the run does not run any more."""
    return tag(
        "div",
        tag("strong", "", id="trouble-title"),
        tag("p", tag("code", "", id="trouble-line")),
        tag("p", "Go on with:", id="trouble-how"),
        command_line(None, id="resume-command"),
        id="trouble",
        role="alert",
        hidden=True,
    )


def figures() -> Markup:
    """The numbers of now."""
    cells = [tag("div", tag("dt", title), tag("dd", "–", id=f"figure-{name}")) for name, title in FIGURES]
    return tag("dl", cells, class_="figures", aria_label="Now")


def charts() -> Markup:
    """The charts with their controls, and the same as a table."""
    axes = [
        tag("option", text, value=value)
        for value, text in (("step", "step"), ("tokens", "tokens"), ("seconds", "time"))
    ]
    controls = tag(
        "div",
        tag("label", "Along ", tag("select", axes, id="axis")),
        tag(
            "label",
            "Smoothing ",
            tag("input", type="range", id="smoothing", min="0", max="0.98", step="0.02", value="0.6"),
        ),
        tag("label", tag("input", type="checkbox", id="logarithmic"), " logarithmic loss"),
        tag("button", "Whole run", type="button", id="whole", class_="quiet", disabled=True),
        tag("span", "drag to zoom, click for the text of that step", class_="hint"),
        class_="controls",
        role="group",
        aria_label="Charts",
    )
    drawn = [
        tag(
            "figure",
            tag("figcaption", tag("b", title), " ", unit_of(unit)),
            tag(
                "canvas",
                id=f"chart-{name}",
                tabindex="0",
                role="img",
                aria_label=f"{title}: chart, values in the table below",
            ),
            class_="chart",
        )
        for name, title, unit in CHARTS
    ]
    table = tag(
        "details",
        tag("summary", "The same as a table"),
        tag(
            "div",
            tag("table", tag("caption", "Values at evenly spaced steps"), id="chart-table"),
            class_="scroll",
            tabindex="0",
        ),
        id="chart-values",
    )
    return section("Curves", controls, tag("div", drawn, class_="charts"), table, id="curves", class_="wide")


def unit_of(unit: str | tuple[str, str]) -> Markup:
    """What the lines are measured in; two lines say which is which."""
    if isinstance(unit, str):
        return tag("small", unit)
    keys = [(tag("span", class_=f"key line-{number}", aria_hidden="true"), each) for number, each in enumerate(unit, 7)]
    return tag("small", keys)


def flip_book() -> Markup:
    """The same prompts, page by page."""
    return tag(
        "div",
        tag(
            "div",
            tag("button", "◀", type="button", id="page-before", aria_label="Earlier sample"),
            tag("input", type="range", id="page", min="0", max="0", value="0", aria_label="Step of the sample"),
            tag("button", "▶", type="button", id="page-after", aria_label="Later sample"),
            tag("button", "Play", type="button", id="page-play", class_="quiet"),
            tag("output", "", id="page-step", for_="page"),
            tag("label", "Prompt ", tag("select", id="prompt"), id="prompt-label", hidden=True),
            class_="controls",
        ),
        tag("p", "no samples yet", id="sample-text", class_="sample", tabindex="0"),
    )


def checkpoint_table() -> Markup:
    """Checkpoints, with commands."""
    header = tag("tr", [tag("th", name, scope="col") for name in ("step", "size", "open", "type it")])
    return tag(
        "div", tag("table", tag("thead", header), tag("tbody", id="checkpoint-rows")), class_="scroll", tabindex="0"
    )
