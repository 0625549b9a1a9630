"""Two answers to a prompt, without a word about who gave which: which one is better?"""

from __future__ import annotations

from pathlib import Path

from mamba_slm.dashboard.page.layout import Place, command_line, page, section
from mamba_slm.dashboard.page.markup import Markup, tag
from mamba_slm.dashboard.page.train import question
from mamba_slm.runs.preferences.choices import CHOICES

SETTINGS = (
    ("limit", "Prompts at most", "all of the file"),
    ("max_new_tokens", "Tokens of an answer", "256"),
    ("temperature", "Temperature", "0.8"),
    ("top_p", "Top-p", "0.95"),
    ("seed", "Seed", "a new one"),
)
OBJECTIVES = ("dpo", "ipo", "orpo", "simpo", "kto")


def rate_page(place: Place, folder: Path) -> str:
    """The page; its script shows pair after pair."""
    return page(
        place,
        "rate",
        "Rate",
        tag("h1", "Rate"),
        section("Which set", chooser(), id="sets"),
        tag(
            "div",
            section("Which answer is better?", compare(place), id="compare"),
            section("What it says", results(), id="results"),
            id="work",
            hidden=True,
        ),
        None if place.is_read_only else section("New pairs", begin(folder), id="new"),
        section("Started from here", tag("div", id="jobs", class_="cards"), id="started"),
        script="rate.js",
        style="rate.css",
    )


def chooser() -> Markup:
    """The set, and who rates."""
    rater = tag("input", id="rater", value="me", maxlength="60", autocomplete="off", size="12")
    return tag(
        "div",
        tag("div", tag("label", "Set ", tag("select", id="set")), tag("label", "Rater ", rater), class_="controls"),
        tag("p", "", id="no-sets", class_="hint", hidden=True),
    )


def compare(place: Place) -> Markup:
    """The prompt, both answers, and what can be said about them."""
    choices = [
        tag(
            "button",
            tag("kbd", choice.key),
            f" {choice.label}",
            type="button",
            class_="choice quiet",
            data_choice=name,
            data_key=choice.key,
            aria_label=choice.label,
            aria_keyshortcuts=choice.key,
        )
        for name, choice in CHOICES.items()
    ]
    more = [
        tag(
            "button",
            tag("kbd", "e"),
            " edit the better one",
            type="button",
            id="edit",
            class_="quiet",
            **key_of("e", "edit the better one"),
        ),
        tag("button", tag("kbd", "u"), " undo", type="button", id="undo", class_="quiet", **key_of("u", "undo")),
    ]
    return tag(
        "div",
        tag(
            "div",
            tag("progress", id="progress", max="1", value="0", aria_label="Pairs rated"),
            tag("span", "", id="count", role="status"),
            tag("span", "", id="steady", class_="hint"),
            class_="controls",
        ),
        tag("div", id="prompt", aria_label="Prompt", role="group"),
        tag("div", answer("A", "left"), answer("B", "right"), class_="answers", id="answers"),
        tag("p", "", id="all-rated", class_="hint", hidden=True),
        None if place.is_read_only else tag("div", choices, more, class_="uses", id="choices"),
        tag("p", "", id="asking", class_="hint", role="status", hidden=True),
        tag(
            "form",
            question("The better answer, as it should be", tag("textarea", "", name="edited", rows="8")),
            tag(
                "div",
                tag("button", "Save this choice", type="submit"),
                tag("button", "Leave it", type="button", id="leave", class_="quiet"),
                tag("span", "Ctrl-Enter saves, Escape leaves it.", class_="hint"),
                class_="controls",
            ),
            id="editor",
            class_="form",
            hidden=True,
        ),
    )


def key_of(key: str, what: str) -> dict[str, str]:
    """Attributes of what a key does, for the list of keys and for screen readers."""
    return {"aria_keyshortcuts": key, "aria_label": what}


def answer(letter: str, side: str) -> Markup:
    """One side."""
    return tag(
        "article",
        tag("h3", letter),
        tag("div", "", class_="text", id=side),
        class_="answer",
        aria_label=f"Answer {letter}",
    )


def results() -> Markup:
    """Who won, how steady the rater is, what else plays a part, and what can be made of it."""
    objectives = [tag("option", name, value=name) for name in OBJECTIVES]
    return tag(
        "div",
        tag("dl", id="figures", class_="figures"),
        tag(
            "details",
            tag("summary", "Who won (this names the models)"),
            tag("div", tag("table", tag("tbody", id="duels")), class_="scroll"),
            id="who",
        ),
        tag("ul", id="remarks"),
        tag(
            "div",
            tag("label", "Train with ", tag("select", objectives, id="objective")),
            tag("label", "the model ", tag("input", id="model", list="known-models", size="24", autocomplete="off")),
            tag(
                "a",
                tag("kbd", "t"),
                " Train on these",
                id="train",
                href="#",
                class_="button",
                **key_of("t", "Train on these"),
            ),
            tag("datalist", id="known-models"),
            class_="controls",
        ),
        tag("p", "", id="usable", class_="hint"),
        tag(
            "p",
            "Take them elsewhere: ",
            [tag("a", text, id=f"export-{name}", href="#") for name, text in EXPORTS],
            class_="exports",
        ),
        tag("details", tag("summary", "The same in a terminal"), [command_line("", id=name) for name in COMMANDS]),
    )


EXPORTS = (("dpo", "pairs (dpo)"), ("kto", "judged answers (kto)"), ("csv", "every rating (csv)"))
COMMANDS = ("command-rate", "command-stats", "command-export")


def begin(folder: Path) -> Markup:
    """Models that answer prompts, or a file of pairs."""
    kinds = (("answer", "Models answer prompts"), ("import", "Pairs of a file"))
    settings = [
        question(title, tag("input", name=key, placeholder=placeholder, autocomplete="off"))
        for key, title, placeholder in SETTINGS
    ]
    models = tag("textarea", "", name="models", rows="2", spellcheck="false")
    return tag(
        "form",
        question("From", tag("select", [tag("option", text, value=key) for key, text in kinds], name="kind")),
        question("Name of the set", tag("input", name="name", autocomplete="off")),
        tag(
            "div",
            question(
                "Models", models, f"one in each line, two at most; one alone answers twice; paths begin in {folder}"
            ),
            question(
                "Prompts",
                tag("input", name="prompts", autocomplete="off"),
                "a text with a prompt in each line, or conversations",
            ),
            tag("details", tag("summary", "More settings"), settings),
            class_="form",
            data_kind="answer",
        ),
        tag(
            "div",
            question("File", tag("input", name="file", autocomplete="off"), "pairs in any form that align reads"),
            tag(
                "label",
                tag("input", type="checkbox", name="unrated", value="yes", checked=True),
                " rate them again, without what the file says is better",
                class_="check",
            ),
            class_="form",
            data_kind="import",
            hidden=True,
        ),
        tag("p", "", id="problem", class_="problem", role="status", hidden=True),
        command_line("", id="command"),
        tag("div", tag("button", "Make the pairs", type="submit", id="begin"), class_="controls"),
        id="form",
        class_="form",
    )
