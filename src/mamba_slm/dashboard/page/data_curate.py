"""From text to text worth training on: a form, the funnel of what came of it, and what went."""

from __future__ import annotations

from mamba_slm.dashboard.forms_data import KINDS
from mamba_slm.dashboard.page.data import data_page, table
from mamba_slm.dashboard.page.layout import Place, command_line, section
from mamba_slm.dashboard.page.markup import Child, Markup, tag

COLUMNS = ("Step", "Left", "Removed", "Share", "Tokens", "Examples")


def curate_page(place: Place) -> str:
    """The page; its script fills it."""
    return data_page(
        place,
        "data/curate",
        "Curate data",
        tag(
            "div",
            section("Curate", form(place), id="what"),
            section("The command", command(), id="before"),
            class_="halves",
        ),
        section("Started from here", tag("div", id="jobs", class_="cards"), id="started"),
        section("What came of it", funnel(), id="result"),
        section("What was removed", removed(), id="removed", class_="wide"),
        script="curate.js",
    )


def funnel() -> Markup:
    """A finished curation."""
    return tag(
        "div",
        tag("label", "Curated folder ", tag("input", id="folder", list="folders", spellcheck="false"), class_="adding"),
        tag("datalist", id="folders"),
        tag("p", "looking …", id="summary", class_="hint", role="status"),
        table("What each rule removed", COLUMNS, "funnel"),
        tag(
            "figure",
            tag("figcaption", "Quality scores of documents that passed the rules", class_="hint"),
            tag("div", id="scores", class_="scores", role="img", aria_label="Quality scores"),
            id="scores-figure",
            hidden=True,
        ),
        tag("ul", id="notes", class_="hint"),
    )


def removed() -> Markup:
    """Documents that went."""
    return tag(
        "div",
        tag(
            "div",
            tag("label", "Rule ", tag("select", tag("option", "all", value=""), id="rule")),
            tag("button", "Further", type="button", id="further", class_="quiet", disabled=True),
            class_="controls",
        ),
        tag("p", "Choose a curated folder.", id="removed-said", class_="hint", role="status"),
        tag("ol", id="removed-rows", class_="documents"),
    )


def form(place: Place) -> Markup:
    """The questions."""
    kinds = [tag("option", f"{name}: {what}", value=name) for name, what in KINDS.items()]
    buttons = [
        tag("button", "Start", id="start"),
        tag("button", "Estimate", type="button", id="estimate", class_="quiet", title="--dry-run: reads a sample"),
    ]
    return tag(
        "form",
        question(
            "Text",
            tag("textarea", "", name="inputs", rows="2", spellcheck="false"),
            "one in each line; KIND=PATH where the kind is another",
        ),
        question("Kind", tag("select", kinds, name="kind"), "each has rules of its own"),
        question("New folder for the result", tag("input", name="out", spellcheck="false", placeholder="curated")),
        tag(
            "details",
            tag("summary", "More settings"),
            question(
                "Drop the worst",
                tag("input", name="drop_share", placeholder="0.3"),
                "share of documents with the lowest quality scores",
            ),
            question(
                "Benchmarks",
                tag("textarea", "", name="benchmarks", rows="2", spellcheck="false"),
                "documents that hold their questions go; one in each line",
            ),
            question("Processes", tag("input", name="workers", placeholder="all cores")),
            question("Key of the text", tag("input", name="key", placeholder="text")),
            question("Settings of every rule", tag("input", name="config", placeholder="strict.yaml"), "YAML"),
        ),
        check("keeps_rejects", "Keep the texts of removed documents, to read them below", is_checked=True),
        check("skips_bad", "Leave out what cannot be read, and count it"),
        None if place.is_read_only else tag("div", buttons, class_="controls"),
        id="form",
        class_="form",
    )


def question(title: str, control: Child, hint: str | None = None) -> Markup:
    """A control with its label, and a remark under it."""
    return tag("label", tag("span", title), control, tag("small", hint) if hint else None)


def check(name: str, title: str, *, is_checked: bool = False) -> Markup:
    """A box to tick."""
    box = tag("input", type="checkbox", name=name, value="yes", checked=is_checked)
    return tag("label", box, f" {title}", class_="check")


def command() -> Markup:
    """What will be started."""
    return tag(
        "div",
        tag("p", "", id="problem", class_="problem", role="status", hidden=True),
        command_line("", id="command"),
        tag(
            "p",
            "Every rule, with its limits, is a setting; the result depends on documents and settings alone. "
            "A killed curation goes on when its command is repeated.",
            class_="hint",
        ),
    )
