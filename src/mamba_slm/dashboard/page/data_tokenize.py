"""From text to tokens: a form for the commands that train a tokenizer and write shards."""

from __future__ import annotations

from mamba_slm.dashboard.page.data import data_page
from mamba_slm.dashboard.page.data_curate import check, question
from mamba_slm.dashboard.page.layout import Place, command_line, section
from mamba_slm.dashboard.page.markup import Markup, tag


def tokenize_page(place: Place) -> str:
    """The page; its script asks what the form means."""
    return data_page(
        place,
        "data/tokenize",
        "Tokenize data",
        tag(
            "div",
            section("Text to tokens", form(place), id="what"),
            section("The commands", commands(), id="before"),
            class_="halves",
        ),
        section("Started from here", tag("div", id="jobs", class_="cards"), id="started"),
        script="tokenize.js",
    )


def form(place: Place) -> Markup:
    """The questions."""
    tokenizer = tag(
        "input", name="tokenizer", list="tokenizers", spellcheck="false", placeholder="train one on this text"
    )
    return tag(
        "form",
        question("Text", tag("textarea", "", name="inputs", rows="2", spellcheck="false"), "one in each line"),
        question("Tokenizer", tokenizer, "of a run or model that will read the tokens; empty trains one first"),
        tag("datalist", id="tokenizers"),
        question("New folder for the tokens", tag("input", name="out", spellcheck="false", placeholder="my-tokens")),
        tag(
            "details",
            tag("summary", "More settings"),
            question("Entries", tag("input", name="vocab_size", value="4096"), "of a tokenizer that is trained"),
            question(
                "Held out",
                tag("input", name="validation_share", placeholder="0.02"),
                "share of documents, for validation",
            ),
            question("Key of the text", tag("input", name="key", placeholder="text")),
        ),
        check("skips_bad", "Leave out what cannot be read, and count it"),
        None if place.is_read_only else tag("div", tag("button", "Start", id="start"), class_="controls"),
        id="form",
        class_="form",
    )


def commands() -> Markup:
    """What will be started, one after the other."""
    return tag(
        "div",
        tag("p", "", id="problem", class_="problem", role="status", hidden=True),
        command_line(None, id="train-command"),
        command_line(None, id="command"),
        tag(
            "p",
            "The result depends on the text, the tokenizer and the settings alone. A killed tokenization goes on when "
            "its command is repeated. Where a tokenizer is trained first, the tokens wait in the queue behind it.",
            class_="hint",
        ),
    )
