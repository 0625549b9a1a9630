"""Servers: those that run, a form for another, and keys."""

from __future__ import annotations

from pathlib import Path

from mamba_slm.dashboard.page.layout import Place, command_line, page, section
from mamba_slm.dashboard.page.markup import Markup, tag
from mamba_slm.dashboard.page.train import question

WEIGHTS = ("float32", "bfloat16", "int8", "int4", "nf4", "fp4", "int8-dynamic", "mixed")
RUNTIMES = ("auto", "compiled", "torch", "onnx")
FIRST = (
    ("max_running", "Slots", "64", "requests that run at once; more wait"),
    ("port", "Port", "8000", "0 takes one that is free"),
)
SETTINGS = (
    ("name", "Name in the API", "the name of its folder", None),
    ("host", "Address to listen at", "127.0.0.1", "0.0.0.0 lets others in: then it needs keys"),
    ("api_keys", "File of keys", "none: whoever reaches it may ask", "made below: api-keys.json"),
    ("requests_per_minute", "Requests a minute", "no limit", "of each key; without keys, of each address"),
    ("context_tokens", "Context", "the model's own", "tokens of a conversation at most"),
    ("kv_tokens", "Keys and values", "131072", "tokens that have room, running and cached together"),
    ("prefix_cache_bytes", "Prefix cache", "1Gi", "memory for states of prompts; 0: none"),
    ("prefix_cache_dir", "Prefix cache on the disk", "none", "a folder, for a server that is started again"),
    ("adapter_dir", "Adapters", "none", "a folder; each is offered by the name of its folder"),
    ("prompt_lookup", "Guess ahead", "0", "tokens, from what followed earlier in the text"),
)
FIGURES = (
    ("requests_per_minute", "requests/min"),
    ("first_token", "first token, p50"),
    ("token_gap", "between tokens, p50"),
    ("new_tokens_per_second", "new tokens/s"),
    ("running", "running"),
    ("waiting", "waiting"),
    ("kv_share", "keys and values"),
    ("cached_share", "prompt reused"),
    ("errors", "errors"),
    ("memory_bytes", "memory"),
)
CHARTS = (
    ("requests", "Requests per minute", ()),
    ("load", "Requests", ("running", "waiting")),
    ("first_token", "Time to the first token, p95", ()),
    ("speed", "New tokens per second", ()),
)

TIMES = ("time", "last minute", "p50", "p95", "since start", "p50", "p95")


def serve_page(place: Place, folder: Path) -> str:
    """The page; its script fills and watches."""
    return page(
        place,
        "serve",
        "Serve",
        tag("h1", "Serve a model"),
        section("Servers", running(), id="servers"),
        tag("div", section("Live", watched(), id="live", class_="wide"), id="live-some", hidden=True),
        tag(
            "div",
            section("Start a server", form(place, folder), id="what"),
            section("Before you start", before(), id="before"),
            class_="halves",
        ),
        None if place.is_read_only else section("Keys", keys(), id="keys"),
        script="serve.js",
        style="serve.css",
    )


def running() -> Markup:
    """Those that run; others can be watched by their address."""
    address = tag("input", name="address", placeholder="http://localhost:8000", aria_label="Address", size="30")
    key = tag(
        "input",
        name="key",
        type="password",
        autocomplete="off",
        placeholder="key for its metrics, if it wants one",
        aria_label="Key",
        size="30",
    )
    return tag(
        "div",
        tag("div", tag("p", "looking …", class_="hint"), id="cards", class_="cards"),
        tag(
            "details",
            tag("summary", "A server at another address"),
            tag("form", address, key, tag("button", "Watch it", class_="quiet"), id="elsewhere", class_="uses"),
            tag("small", "Begun in a terminal, on another machine, or one of vLLM: its figures have the same names."),
        ),
    )  # fmt: skip


def options(names: tuple[str, ...], default: str) -> list[Markup]:
    """Choices, the command's own first."""
    return [tag("option", default, value=""), *(tag("option", name, value=name) for name in names)]


def form(place: Place, folder: Path) -> Markup:
    """What the command asks."""
    model = tag(
        "input",
        name="model",
        list="models",
        placeholder="runs/quickstart",
        required=True,
        autocomplete="off",
        spellcheck="false",
    )
    first = [
        question(title, tag("input", name=key, placeholder=default, autocomplete="off", inputmode="numeric"), hint)
        for key, title, default, hint in FIRST
    ]
    settings = [
        question(title, tag("input", name=key, placeholder=default, autocomplete="off"), hint)
        for key, title, default, hint in SETTINGS
    ]
    more = tag("input", name="more", placeholder="--draft runs/small --cors https://example.org", autocomplete="off")
    return tag(
        "form",
        question("Model", model, f"a run, a checkpoint or a model folder; paths begin in {folder}"),
        tag("datalist", id="models"),
        question("Precision", tag("select", options(WEIGHTS, "as it is stored"), name="weights"), "of the matrices"),
        question("Runtime", tag("select", options(RUNTIMES[1:], "auto: the fastest that fits"), name="runtime")),
        first,
        tag("details", tag("summary", "More settings"), settings, question("Any other flags", more)),
        None
        if place.is_read_only
        else tag("div", tag("button", "Start", type="submit", id="start"), class_="controls"),
        id="form",
        class_="form",
    )


def before() -> Markup:
    """The command, and what stands in its way."""
    return tag(
        "div",
        tag("p", "", id="problem", class_="problem", role="status", hidden=True),
        tag("h3", "The command"),
        command_line("mamba-slm serve", id="command"),
        tag(
            "p",
            "The server is a job of its own: it goes on without this page and this dashboard, until it is stopped.",
            class_="hint",
        ),
        tag("p", "Port 8000 is that of the documentation; two servers need two ports.", class_="hint"),
    )


def watched() -> Markup:
    """One server: numbers of the last minute, curves, times, requests, how to ask it."""
    figures = [tag("div", tag("dt", title), tag("dd", "–", id=f"figure-{name}")) for name, title in FIGURES]
    charts = [
        tag(
            "figure",
            tag("figcaption", tag("b", title), tag("small", keys_of(lines))),
            tag("canvas", id=f"chart-{name}", tabindex="0", role="img", aria_label=f"{title}: chart, as figures above"),
            class_="chart",
        )
        for name, title, lines in CHARTS
    ]
    times = [tag("th", name, scope="col") for name in TIMES]
    heads = ("time", "status", "request", "prompt", "new", "seconds", "key")
    return tag(
        "div",
        tag(
            "div",
            tag("label", "Server ", tag("select", id="which")),
            tag("span", "", id="live-state", class_="state"),
            tag("a", "What it says", id="live-log", href="#"),
            tag("a", "Chat", href="chat", id="live-chat"),
            class_="controls",
        ),
        tag("p", "", id="live-problem", class_="problem", role="status", hidden=True),
        tag("div", id="live-key", class_="controls", hidden=True),
        tag("dl", figures, class_="figures", aria_label="The last minute"),
        tag("p", "", id="live-window", class_="hint"),
        tag("div", charts, class_="charts"),
        tag("h3", "Times"),
        tag(
            "div",
            tag("table", tag("thead", tag("tr", times)), tag("tbody", id="times")),
            class_="scroll",
            tabindex="0",
            role="region",
            aria_label="Table of times",
        ),
        tag("p", "p50 and p95 lie between bounds of the server's counts: the range is certain.", class_="hint"),
        tag("h3", "Last requests"),
        tag(
            "div",
            tag("table", tag("thead", tag("tr", [tag("th", name, scope="col") for name in heads])),
                tag("tbody", id="requests")),
            class_="scroll",
            tabindex="0",
            role="region",
            aria_label="Table of requests",
        ),
        tag("h3", "Ask it"),
        command_line("", id="curl"),
        command_line("", id="python"),
    )  # fmt: skip


def keys_of(lines: tuple[str, ...]) -> list[object]:
    """Which line is which."""
    return [(tag("span", class_=f"key line-{i}", aria_hidden="true"), name) for i, name in enumerate(lines, 1)]


def keys() -> Markup:
    """Who may use servers that were started with this file."""
    roles = [
        tag("option", text, value=value)
        for value, text in (
            ("user", "may ask the model"),
            ("admin", "may change adapters, too"),
            ("metrics", "may read /metrics only"),
        )
    ]
    heads = ("name", "number", "role", "made", "requests/min", "tokens/min", "do")
    return tag(
        "div",
        tag(
            "form",
            tag("label", "File ", tag("input", name="file", value="api-keys.json", spellcheck="false")),
            tag("label", "Name ", tag("input", name="name", autocomplete="off")),
            tag("label", "Role ", tag("select", roles, name="role")),
            tag("label", "Requests/min ", tag("input", name="requests_per_minute", size="6", placeholder="no limit")),
            tag("label", "Tokens/min ", tag("input", name="tokens_per_minute", size="6", placeholder="no limit")),
            tag("button", "Add a key", type="submit"),
            id="key-form",
            class_="controls",
        ),
        tag(
            "div",
            tag("p", tag("strong", "The new key. It is not stored, and cannot be shown again:")),
            command_line("", id="new-key"),
            id="key-made",
            role="status",
            hidden=True,
        ),
        tag(
            "div",
            tag("table", tag("thead", tag("tr", [tag("th", name, scope="col") for name in heads])),
                tag("tbody", id="key-rows")),
            id="key-table",
            class_="scroll",
            tabindex="0",
            role="region",
            aria_label="Table of keys",
            hidden=True,
        ),
        tag("p", "", id="key-none", class_="hint"),
        tag("p", "The same in a terminal:", class_="hint"),
        command_line("mamba-slm api-keys list --file=api-keys.json", id="key-command"),
    )  # fmt: skip
