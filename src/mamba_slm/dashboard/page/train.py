"""One form for a training, with what it takes beside it."""

from __future__ import annotations

from pathlib import Path

from mamba_slm.core.units import format_count
from mamba_slm.dashboard.page.layout import Place, command_line, page, section
from mamba_slm.dashboard.page.markup import Markup, tag
from mamba_slm.model.count import count_parameters
from mamba_slm.model.presets import SIZES, preset

LIMITS = (("minutes", "minutes"), ("tokens", "tokens"), ("steps", "steps"), ("pass", "one pass over the data"))
SETTINGS = (
    ("context_tokens", "Context", "tokens of a row"),
    ("batch_tokens", "Batch", "tokens of a step"),
    ("learning_rate", "Learning rate", "its peak"),
    ("vocab_size", "Vocabulary", "of a tokenizer that is trained on the text"),
    ("seed", "Seed", "of weights and order"),
)


def train_page(place: Place, folder: Path) -> str:
    """The form; its script asks for the plan while somebody types."""
    return page(
        place,
        "train",
        "Train",
        tag("h1", "Train a model"),
        tag(
            "div",
            section("What", form(place, folder), id="what"),
            section("Before you start", plan(), id="before"),
            class_="halves",
        ),
        section("Started from here", tag("div", id="jobs", class_="cards"), id="started"),
        script="train.js",
    )


def form(place: Place, folder: Path) -> Markup:
    """The questions."""
    sizes = [
        tag("option", f"{name} · {format_count(count_parameters(preset(name)).total)} parameters", value=name)
        for name in SIZES
    ]
    limits = [tag("option", text, value=value) for value, text in LIMITS]
    settings = [
        question(title, tag("input", name=key, placeholder="the size's own", autocomplete="off"), hint)
        for key, title, hint in SETTINGS
    ]
    more = tag("input", name="more", placeholder="--schedule wsd --optimizer muon", autocomplete="off")
    buttons = [
        tag("button", "Start", type="submit", id="start"),
        tag("button", "Add to the queue", type="button", id="enqueue", class_="quiet"),
    ]
    where = f"paths begin in {folder}: text, a folder, token shards, or NAME=PATH:WEIGHT; one in each line"
    return tag(
        "form",
        question("Size", tag("select", sizes, name="preset")),
        question("Data", tag("textarea", "", name="data", rows="2", required=True, spellcheck="false"), where),
        tag(
            "fieldset",
            tag("legend", "Length"),
            tag("input", name="amount", value="10", inputmode="decimal", aria_label="How much", size="8"),
            tag("select", limits, name="limit", aria_label="Of what"),
            class_="row",
        ),
        question("Name", tag("input", name="name", placeholder="date and size", autocomplete="off"), "of the run"),
        tag("details", tag("summary", "More settings"), settings, question("Any other flags", more)),
        None if place.is_read_only else tag("div", buttons, class_="controls"),
        tag("p", "", id="busy", class_="hint", role="status", hidden=True),
        id="form",
        class_="form",
    )


def question(title: str, control: Markup, hint: str | None = None) -> Markup:
    """A control with its label, and a remark under it."""
    return tag("label", tag("span", title), control, tag("small", hint) if hint else None)


def plan() -> Markup:
    """What the command takes."""
    rows = ("parameters", "memory", "time", "cost", "length")
    cells = [tag("div", tag("dt", name), tag("dd", "–", id=f"plan-{name}")) for name in rows]
    return tag(
        "div",
        tag("p", "", id="problem", class_="problem", role="status", hidden=True),
        tag("dl", cells, class_="figures", aria_label="Estimate"),
        tag("div", id="parts", class_="parts"),
        tag("p", "", id="how", class_="hint"),
        tag(
            "p",
            *("Layers: ", tag("code", "", id="pattern")),
            tag("small", " M Mamba-2, * attention, - feed-forward; a digit repeats the letter before it"),
            id="layers",
            hidden=True,
        ),
        tag("h3", "The command"),
        command_line("", id="command"),
        tag("h3", "To look before you leap"),
        command_line("", id="dry-run"),
    )
