"""A mixture of token shards: weights, what they come to, and what the model would read first."""

from __future__ import annotations

from mamba_slm.dashboard.page.data import data_page, table
from mamba_slm.dashboard.page.layout import Place, command_line, section
from mamba_slm.dashboard.page.markup import Markup, tag

COLUMNS = ("Source", "Weight", "Share", "Takes", "Of", "Epochs", "")


def mix_page(place: Place) -> str:
    """The page; its script asks what the weights come to."""
    return data_page(
        place,
        "data/mix",
        "Mix data",
        section("Sources", sources(), id="sources"),
        section("The command", commands(place), id="commands"),
        section(
            "What the model would read first",
            tag("p", "", id="remark", class_="hint"),
            tag("ol", id="first-rows", class_="documents"),
            id="first",
        ),
        script="mix.js",
    )


def sources() -> Markup:
    """The form."""
    return tag(
        "div",
        tag("p", "", id="problem", class_="problem", role="status", hidden=True),
        table("Sources of the mixture", COLUMNS, "rows"),
        tag("ul", id="warnings", class_="warnings"),
        tag(
            "form",
            tag("label", tag("span", "Add token shards"), tag("input", name="path", list="shards", spellcheck="false")),
            tag("datalist", id="shards"),
            tag("button", "Add", id="add"),
            id="adding",
            class_="adding",
        ),
        tag(
            "form",
            tag("label", "Tokens of the training ", tag("input", name="tokens", value="1B", size="7")),
            tag("label", "Row ", tag("input", name="context_tokens", value="2048", size="6")),
            tag("label", "Seed ", tag("input", name="seed", value="0", size="4")),
            tag("label", "Tokenizer ", tag("input", name="tokenizer", size="14", placeholder="that of the shards")),
            tag("button", "Weights by size", type="button", id="by-size", class_="quiet"),
            tag("button", "Equal weights", type="button", id="equal", class_="quiet"),
            id="form",
            class_="controls",
        ),
    )


def commands(place: Place) -> Markup:
    """What one does with the mixture."""
    write = tag(
        "form",
        tag("label", "Write it to ", tag("input", name="out", value="mixture.yaml", spellcheck="false")),
        tag("button", "Write", class_="quiet"),
        id="writing",
        class_="controls",
    )
    return tag(
        "div",
        command_line("", id="command"),
        tag("p", tag("a", "Train with this mixture", href=place.url("train"), id="train")),
        None if place.is_read_only else write,
        tag("div", id="jobs", class_="cards"),
    )
