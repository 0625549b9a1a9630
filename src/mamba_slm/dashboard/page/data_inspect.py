"""Documents as they are, as conversations, as tokens, and with what is learned of them."""

from __future__ import annotations

from mamba_slm.dashboard.page.data import data_page
from mamba_slm.dashboard.page.layout import Place, command_line, section
from mamba_slm.dashboard.page.markup import Markup, tag

VIEWS = (("text", "Text"), ("raw", "As in the file"), ("tokens", "Tokens"), ("mask", "What is learned"))
TRAIN_ON = (("answers", "answers"), ("last-answer", "the last answer"), ("all", "every token"))


def inspect_page(place: Place) -> str:
    """The page; its script reads."""
    return data_page(
        place,
        "data/inspect",
        "Inspect data",
        section("What to read", form(), id="what"),
        section("Documents", reader(), id="documents"),
        section(
            "All of it counted",
            tag("p", "Sizes, lengths, exact duplicates and what cannot be read, of every document:", class_="hint"),
            command_line("", id="command"),
            None if place.is_read_only else tag("button", "Count it", type="button", id="count", class_="quiet"),
            tag("div", id="jobs", class_="cards"),
            id="counted",
        ),
        script="inspect.js",
    )


def form() -> Markup:
    """What is read, and how."""
    return tag(
        "form",
        tag(
            "label",
            tag("span", "File, folder or token shards"),
            tag("input", name="path", required=True, spellcheck="false"),
        ),
        tag(
            "label",
            tag("span", "Tokenizer"),
            tag(
                "input",
                name="tokenizer",
                spellcheck="false",
                list="tokenizers",
                placeholder="a run, a model or a tokenizer.json",
            ),
        ),
        tag("datalist", id="tokenizers"),
        tag(
            "div",
            tag("label", "Search ", tag("input", name="search", type="search", size="18")),
            tag("label", "Key of the text ", tag("input", name="key", size="10", placeholder="text")),
            tag("button", "Read"),
            class_="controls",
        ),
        id="form",
        class_="form",
    )


def reader() -> Markup:
    """Where documents appear."""
    views = [tag("label", tag("input", type="radio", name="view", value=value), f" {title}") for value, title in VIEWS]
    trains = tag("select", [tag("option", text, value=value) for value, text in TRAIN_ON], id="train-on")
    return tag(
        "div",
        tag("fieldset", tag("legend", "Show", class_="unseen"), views, class_="controls views"),
        tag(
            "div",
            tag("label", "Learned is ", trains),
            tag(
                "span",
                tag("span", "Hold the green button", class_="token learned"),
                " is learned, the rest is only read",
                class_="hint",
            ),
            class_="controls",
            id="learned",
            hidden=True,
        ),
        tag(
            "p",
            "Choose a file, a folder or token shards, and see what a model would read.",
            id="said",
            class_="hint",
            role="status",
        ),
        tag(
            "p",
            tag("span", ""),
            tag("button", "Show all", type="button", class_="link"),
            id="like",
            class_="hint",
            hidden=True,
        ),
        tag("ol", id="rows", class_="documents"),
        tag(
            "div",
            tag("button", "Earlier", type="button", id="earlier", class_="quiet", disabled=True),
            tag("button", "Further", type="button", id="further", class_="quiet", disabled=True),
            tag("label", "From number ", tag("input", type="number", id="first", min="1", value="1")),
            class_="controls",
        ),
    )
