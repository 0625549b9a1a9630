"""What a model can do: the form that measures, what was measured, differences, and answers one by one."""

from __future__ import annotations

from pathlib import Path

from mamba_slm.dashboard.benchmarks import BENCHMARKS, SUITES
from mamba_slm.dashboard.forms_evaluate import KINDS
from mamba_slm.dashboard.page.layout import Place, command_line, page, section
from mamba_slm.dashboard.page.markup import Markup, tag
from mamba_slm.dashboard.page.train import question

WHICH = (("wrong", "wrong"), ("right", "right"), ("all", "all"))


def evaluate_page(place: Place, folder: Path) -> str:
    """The page; its scripts fill it."""
    return page(
        place,
        "evaluate",
        "Evaluate",
        tag("h1", "Evaluate"),
        tag(
            "div",
            section("Measure a model", form(place, folder), before(), id="measure"),
            tag(
                "div",
                section("Measured", listing(), id="measured"),
                section("Started from here", tag("div", id="jobs", class_="cards"), id="started"),
                class_="stack",
            ),
            class_="halves",
        ),
        section("Scores", tag("div", id="scores-body"), id="scores", class_="wide"),
        section("Answers", answers(), id="answers", class_="wide"),
        script="evaluate.js",
        style="evaluate.css",
    )


def form(place: Place, folder: Path) -> Markup:
    """The questions."""
    kinds = [tag("option", text, value=value) for value, text in KINDS.items()]
    model = tag("input", name="model", list="models", required=True, autocomplete="off", spellcheck="false")
    texts = tag("textarea", "", name="texts", rows="2", spellcheck="false")
    buttons = [
        tag("button", "Start", type="submit", id="start"),
        tag("button", "Add to the queue", type="button", id="enqueue", class_="quiet"),
    ]
    return tag(
        "form",
        question("Model", model, f"a run, a checkpoint or a model folder; paths begin in {folder}"),
        tag("datalist", id="models"),
        question("What", tag("select", kinds, name="what")),
        tag("div", benchmarks(), id="of-questions", class_="stack", data_for="questions"),
        tag("div", question("Texts", texts, "files or folders, one in each line"), data_for="texts", hidden=True),
        tag("div", lengths(), data_for="probe speed", class_="stack", hidden=True),
        tag(
            "details",
            tag("summary", "More settings"),
            text("name", "Name", "that of the model", "of the folder for the results"),
            text("num_fewshot", "Examples", "the benchmark's own", "before each question", of="questions"),
            yes_or_no("chat", "Chat template", "put each question as a message of a user", "questions"),
            yes_or_no("by_position", "By place", "losses by the place in a window, of texts longer than one", "texts"),
            text(
                "baseline", "Baseline", "none", "folder of earlier results; the log shows the differences", "questions"
            ),
            text("more", "Any other flags", "--weights int8 --device cpu --threads 2"),
        ),
        None if place.is_read_only else tag("div", buttons, class_="controls"),
        id="form",
        class_="form",
    )


def benchmarks() -> list[Markup]:
    """Which questions: suites, single benchmarks, or any name."""
    suites = [
        tag("button", name, type="button", class_="quiet suite", data_names=names) for name, names in SUITES.values()
    ]
    rows = [
        tag(
            "li",
            tag(
                "label",
                tag("input", type="checkbox", value=one.name, class_="benchmark"),
                tag("b", one.name),
                tag("small", f"{one.measures}: {one.questions:,}, {one.how}"),
            ),
        )
        for one in BENCHMARKS
    ]
    names = tag("input", name="benchmarks", autocomplete="off", spellcheck="false", placeholder="arc_easy,piqa")
    return [
        tag("div", suites, class_="controls", role="group", aria_label="Suites"),
        tag("ul", rows, class_="benchmarks", tabindex="0", aria_label="Benchmarks"),
        question("Benchmarks", names, "any task of lm-evaluation-harness, or the YAML file of one of your own"),
        text("data_dir", "Questions are in", "downloaded", "folder with local copies"),
        text("limit", "Only the first", "all", "questions of each: to try things out, not to compare"),
    ]


def lengths() -> list[Markup]:
    """What long texts and speed have in common."""
    return [
        text(
            "lengths", "Lengths", "an eighth, a half and all of the context; for speed 128,512", "tokens, with commas"
        ),
        text("times", "Times", "20", "how often each is measured"),
    ]


def text(name: str, title: str, placeholder: str, hint: str | None = None, of: str | None = None) -> Markup:
    """A line of text with its label."""
    return tag(
        "label",
        tag("span", title),
        tag("input", name=name, placeholder=placeholder, autocomplete="off", spellcheck="false"),
        tag("small", hint) if hint else None,
        data_for=of,
    )


def yes_or_no(name: str, title: str, hint: str, of: str) -> Markup:
    """A switch with its label."""
    options = [tag("option", "no", value=""), tag("option", "yes", value="on")]
    return tag("label", tag("span", title), tag("select", options, name=name), tag("small", hint), data_for=of)


def before() -> Markup:
    """What will run, or why it cannot."""
    return tag(
        "div",
        tag("p", "", id="problem", class_="problem", role="status", hidden=True),
        tag("h3", "The command", id="command-title"),
        command_line("", id="command"),
        tag("p", "", id="asks", class_="hint"),
        id="before",
    )


def listing() -> Markup:
    """The evaluations found; one is shown, a second one is compared with it."""
    columns = ("show", "beside", "model", "what came out", "when")
    header = tag("tr", [tag("th", name, scope="col") for name in columns])
    return tag(
        "div",
        tag("p", "looking …", id="list-note", class_="hint"),
        tag(
            "div",
            tag("table", tag("thead", header), tag("tbody", id="list")),
            class_="scroll found",
            tabindex="0",
            id="list-table",
            hidden=True,
        ),
    )


def answers() -> Markup:
    """The reader of single answers."""
    options = [tag("option", name, value=value) for value, name in WHICH]
    controls = tag(
        "div",
        tag("label", "Benchmark ", tag("select", id="task")),
        tag("label", "Answers ", tag("select", options, id="which")),
        tag("button", "◀", type="button", id="answers-before", aria_label="Earlier answers"),
        tag("span", "", id="answers-count", role="status"),
        tag("button", "▶", type="button", id="answers-after", aria_label="Later answers"),
        class_="controls",
    )
    note = "No prompt is kept here: each choice is a whole text, or the results are of an earlier version."
    return tag(
        "div",
        controls,
        tag("p", note, id="answers-note", class_="hint", hidden=True),
        tag("div", id="answer-list", class_="answer-list"),
    )
