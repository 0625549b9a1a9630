"""One form to train a model further: on examples, on what people prefer, or on rewards."""

from __future__ import annotations

from pathlib import Path

from mamba_slm.dashboard.page.layout import Place, command_line, page, section
from mamba_slm.dashboard.page.markup import Markup, tag
from mamba_slm.dashboard.page.train import question

TASKS = (
    ("finetune", "examples: say this"),
    ("dpo", "preferences: dpo"),
    ("ipo", "preferences: ipo"),
    ("orpo", "preferences: orpo"),
    ("simpo", "preferences: simpo"),
    ("kto", "good and bad answers: kto"),
    ("grpo", "rewards for what it answers: grpo"),
    ("reward", "a model that scores answers"),
)
METHODS = (
    ("lora", "lora: small matrices beside the frozen ones"),
    ("qlora", "qlora: the same over matrices of 4 bits"),
    ("full", "full: all weights"),
)
TRAIN_ON = (("", "answers"), ("last-answer", "the last answer"), ("all", "every token"))
SETTINGS = (
    ("rank", "Rank", "16", "of the adapters"),
    ("targets", "Targets", "all", "matrices with adapters: in_proj,out_proj,q_proj,…"),
    ("learning_rate", "Learning rate", "by size and method", "its peak"),
    ("context_tokens", "Context", "at most 1024", "tokens of an example"),
    ("batch", "Batch", "8192 tokens, or 16 examples", "of a step: tokens; with preferences examples"),
    ("beta", "Beta", "the objective's own", "how closely an alignment keeps to the model as it was"),
    ("validation", "Validation", "some of the data", "held-out examples: a file"),
    ("benchmarks", "Benchmarks", "none", "asked before and after, such as hellaswag,arc_easy"),
)
ROWS = (
    ("model", "parameters"),
    ("trained", "trained"),
    ("steps", "steps"),
    ("memory", "memory"),
    ("time", "time"),
    ("cost", "cost"),
    ("rate", "learning rate"),
)


def tune_page(place: Place, folder: Path) -> str:
    """The form; its script asks for the plan while somebody types."""
    return page(
        place,
        "tune",
        "Fine-tune",
        tag("h1", "Train a model further"),
        tag(
            "div",
            section("What", form(place, folder), id="what"),
            section("Before you start", plan(), id="before"),
            class_="halves",
        ),
        None if place.is_read_only else section("What it learns from", examples(), id="examples"),
        section("Started from here", tag("div", id="jobs", class_="cards"), id="started"),
        script="tune.js",
        style="tune.css",
    )


def form(place: Place, folder: Path) -> Markup:
    """The questions."""

    def options(rows: tuple[tuple[str, str], ...]) -> list[Markup]:
        return [tag("option", text, value=value) for value, text in rows]

    settings = [
        question(title, tag("input", name=key, placeholder=placeholder, autocomplete="off"), hint)
        for key, title, placeholder, hint in SETTINGS
    ]
    model = tag("input", name="model", required=True, list="known-models", autocomplete="off")
    data = tag("textarea", "", name="data", rows="2", required=True, spellcheck="false")
    reward = tag("textarea", "", name="reward", rows="2", spellcheck="false")
    more = tag("input", name="more", placeholder="--schedule wsd --merge", autocomplete="off")
    buttons = [
        tag("button", "Start", type="submit", id="start", aria_keyshortcuts="Control+Enter"),
        tag("button", "Add to the queue", type="button", id="enqueue", class_="quiet"),
        tag("button", "Dry run", type="button", id="dry", class_="quiet", title="shows data and plan, trains nothing"),
        tag("span", "Ctrl-Enter starts, too.", class_="hint"),
    ]
    return tag(
        "form",
        question("Learns from", tag("select", options(TASKS), name="task")),
        question("Method", tag("select", options(METHODS), name="method")),
        question("Model", model, "a run, a checkpoint or a model folder"),
        question("Data", data, f"a file, a folder, OWNER/NAME of the hub or prefs:NAME; paths begin in {folder}"),
        tag("p", "", id="sets", class_="uses", hidden=True),
        tag(
            "div",
            question("Rewards", reward, "math, code, format=REGEX, length=TOKENS, FILE.py:FUNCTION"),
            id="rewards",
        ),
        tag(
            "fieldset",
            tag("legend", "Length"),
            tag("label", "passes ", tag("input", name="epochs", inputmode="decimal", placeholder="2 or 1", size="6")),
            tag(
                "label",
                "at most ",
                tag("input", name="max_steps", inputmode="numeric", placeholder="any", size="6"),
                " steps",
            ),
            class_="row",
        ),
        tag("div", question("Learned in them", tag("select", options(TRAIN_ON), name="train_on")), id="learned"),
        question("Name", tag("input", name="name", placeholder="date and method", autocomplete="off"), "of the run"),
        tag("details", tag("summary", "More settings"), settings, question("Any other flags", more)),
        None if place.is_read_only else tag("div", buttons, class_="controls"),
        tag("datalist", id="known-models"),
        id="form",
        class_="form",
    )


def plan() -> Markup:
    """What the command takes, and what of the model it reaches."""
    cells = [tag("div", tag("dt", title), tag("dd", "–", id=f"plan-{name}")) for name, title in ROWS]
    return tag(
        "div",
        tag("p", "", id="problem", class_="problem", role="status", hidden=True),
        tag("dl", cells, class_="figures", aria_label="Estimate"),
        tag("div", id="parts", class_="parts"),
        tag("p", "", id="how", class_="hint"),
        tag(
            "div",
            tag("h3", "What it reaches"),
            tag("div", id="layers", role="img"),
            tag("p", "", id="reach", class_="hint"),
            id="coverage",
            hidden=True,
        ),
        tag("h3", "The command"),
        command_line("", id="command"),
        tag("h3", "To look before you leap"),
        command_line("", id="dry-run"),
    )


def examples() -> Markup:
    """One example at a time, with what is learned in it marked."""
    return tag(
        "div",
        tag(
            "div",
            tag("button", "‹", type="button", id="earlier", class_="quiet", aria_label="The example before"),
            tag("button", "›", type="button", id="later", class_="quiet", aria_label="The example after"),
            tag("span", "", id="which", role="status"),
            tag("label", tag("input", type="checkbox", id="borders"), " borders of tokens"),
            tag(
                "span",
                tag("span", "learned", class_="learned"),
                " – the loss is computed there; the rest is read only",
                class_="hint",
                id="legend",
            ),
            class_="controls",
        ),
        tag("div", "", id="example", tabindex="0", role="group", aria_label="Example"),
        tag("p", "Name a model and data on this computer to see what is learned.", id="no-example", class_="hint"),
        tag(
            "details", tag("summary", "What was read"), tag("pre", "", id="said", tabindex="0"), id="read", hidden=True
        ),
    )
