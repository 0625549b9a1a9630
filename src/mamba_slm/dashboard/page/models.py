"""Models: what there is, what one is made of, and what can be made of it."""

from __future__ import annotations

from pathlib import Path

from mamba_slm.dashboard.page.layout import Place, command_line, page, section
from mamba_slm.dashboard.page.markup import Markup, tag
from mamba_slm.dashboard.page.train import question
from mamba_slm.dashboard.reading.models import DEEPEST
from mamba_slm.model.quantization import PLANS

LIST = ("model", "kind", "parameters", "stored as", "size", "made from")
SIZES = ("size", "parameters", "in BF16", "layers", "for")
DOINGS = (
    ("quantize", "Quantize"),
    ("formats", "Measure formats"),
    ("export", "Export"),
    ("verify", "Compare"),
    ("merge", "Merge an adapter"),
)
FORMATS = "int8,int4,nf4,mixed"
METHODS = ("auto", "nearest", "gptq", "hqq")
GGUF_TYPES = ("Q8_0", "Q6_K", "Q5_0", "Q4_1", "Q4_K_M", "Q4_K", "Q4_0", "F16", "BF16", "F32")


def models_page(place: Place, folder: Path) -> str:
    """The page; its script fills it."""
    return page(
        place,
        "models",
        "Models",
        tag("h1", "Models"),
        section("On this machine", listing(folder), id="here"),
        detail(),
        section("Make something of it", form(place), id="make"),
        section("Started from here", tag("div", id="jobs", class_="cards"), id="started"),
        script="models.js",
        style="models.css",
    )


def listing(folder: Path) -> Markup:
    """Models that are there, and sizes that could be trained."""
    found = table("found", "Models below the homes and the folder of this dashboard", LIST, ("parameters", "size"))
    sizes = table("sizes", "Named sizes", SIZES, ("parameters", "in BF16", "layers"))
    filters = tag(
        "div",
        tag("label", "Filter ", tag("input", type="search", id="filter", placeholder="name, GGUF, run", size="24")),
        tag("span", "", id="count", role="status"),
        class_="controls",
    )
    where = f"Looked for in {folder} and the homes, {DEEPEST} folders deep; any other path can be typed below."
    return tag(
        "div",
        filters,
        found,
        tag("p", where, class_="hint"),
        tag("details", tag("summary", "Sizes that can be trained"), sizes, what_if(), id="presets"),
    )


def what_if() -> Markup:
    """The size that is shown, with other layers."""
    layouts = (("", "as it is"), ("portable", "portable: a feed-forward in every layer"), ("classic", "classic"))
    return tag(
        "form",
        tag("label", "Layout ", select("layout", layouts)),
        tag("label", "Pattern ", text_input("pattern", "M-M-*-M-")),
        tag("label", "Vocabulary ", text_input("vocab_size", "32k")),
        tag("span", "", class_="hint", id="what-if-of"),
        id="what-if",
        class_="controls",
        hidden=True,
    )


def table(id: str, caption: str, columns: tuple[str, ...], numbers: tuple[str, ...]) -> Markup:
    """An empty table."""
    header = [tag("th", name, scope="col", class_="number" if name in numbers else None) for name in columns]
    body = tag("tbody", id=f"{id}-rows")
    return tag(
        "div",
        tag("table", tag("caption", caption, class_="unseen"), tag("thead", tag("tr", header)), body),
        class_="scroll",
        tabindex="0",
    )


def detail() -> Markup:
    """One model."""
    facts = (
        ("parameters", "parameters"), ("bytes", "on disk"), ("bf16", "in BF16"), ("layers", "layers"),
        ("attention", "with attention"), ("context", "context"), ("trained", "trained at"),
        ("vocabulary", "vocabulary"), ("flops", "FLOP a token"),
    )  # fmt: skip
    figures = [tag("div", tag("dt", title), tag("dd", "–", id=f"fact-{name}")) for name, title in facts]
    heading = tag(
        "div",
        tag("h2", "", id="detail-title"),
        tag("span", "", id="detail-kind", class_="badge"),
        tag("span", "", id="detail-path", class_="hint"),
        tag("div", id="links", class_="actions"),
        class_="heading",
    )
    parts = ("part", "parameters", "share", "FLOP a token", "in the file")
    chart = tag(
        "figure",
        tag(
            "canvas",
            id="memory-chart",
            tabindex="0",
            role="img",
            aria_label="Memory of one conversation against its length: values in the table below",
        ),
        tag("figcaption", tag("ul", id="memory-legend", class_="legend")),
        class_="chart",
    )
    return tag(
        "div",
        heading,
        tag("p", "", id="detail-problem", class_="problem", hidden=True),
        tag("dl", figures, class_="figures", id="facts", aria_label="Model"),
        tag(
            "div",
            section(
                "Layers",
                tag("div", id="layer-map", role="img", class_="layers"),
                tag("ul", id="layer-legend", class_="legend"),
                table("parts", "Parameters, work and bytes by part", parts, parts[1:]),
                tag("p", "", id="settings-line", class_="hint"),
                level=3,
                id="anatomy",
            ),
            section(
                "Memory of one conversation",
                chart,
                table(
                    "memory",
                    "Memory of one conversation",
                    ("context", "this model", "attention only", "saved"),
                    ("context", "this model", "attention only", "saved"),
                ),
                tag("p", "", id="memory-line"),
                level=3,
                id="memory",
            ),
            class_="halves",
            id="arithmetic",
        ),
        tag(
            "div",
            section("Where it comes from", tag("ol", id="lineage", class_="lineage"), level=3, id="origin"),
            section("What was verified", tag("div", id="checks"), level=3, id="verified"),
            section(
                "Formats and runtimes",
                tag("ul", id="runtimes", class_="runtimes"),
                tag("ul", id="issues", class_="hint"),
                table("formats", "Size in each format", ("format", "weights", "bits", "use it"), ("weights", "bits")),
                level=3,
                id="fitting",
            ),
            section("Files", tag("div", id="files-here"), level=3, id="file-list"),
            class_="halves",
            id="history",
        ),
        id="detail",
        class_="detail",
        hidden=True,
    )


def form(place: Place) -> Markup:
    """Quantize, export, compare; what does not belong to the choice is hidden."""
    choices = [
        tag("label", tag("input", type="radio", name="do", value=value, checked=value == "quantize"), f" {text}")
        for value, text in DOINGS
    ]
    buttons = [
        tag("button", "Start", type="submit", id="start"),
        tag("button", "Add to the queue", type="button", id="enqueue", class_="quiet"),
    ]
    asked = tag(
        "form",
        tag("fieldset", tag("legend", "What"), choices, class_="choices"),
        question(
            "Model",
            text_input("model", "runs/NAME"),
            "run, checkpoint or model folder; to compare: the reference; to merge: the adapter",
        ),
        questions(),
        only("quantize export merge", "Write to", text_input("out", "a name is proposed"), "must not exist"),
        tag(
            "details", tag("summary", "More settings"), settings(), question("Any other flags", text_input("more", ""))
        ),
        None if place.is_read_only else tag("div", buttons, class_="controls"),
        id="form",
        class_="form",
    )
    plan = tag(
        "div",
        tag("p", "", id="problem", class_="problem", role="status", hidden=True),
        tag("h3", "The command"),
        command_line("", id="command"),
        tag("div", id="size", class_="parts"),
        tag("p", "", id="how", class_="hint"),
        id="before",
    )
    return tag("div", asked, plan, class_="halves")


def questions() -> list[Markup]:
    """What one should decide."""
    formats = select("to", (*((name, name) for name in PLANS), ("", "what it was trained for")))
    methods = select("method", tuple((name, name) for name in METHODS))
    kinds = (("gguf", "GGUF: llama.cpp, Ollama, LM Studio"), ("hf", "Hugging Face folder: transformers, vLLM, SGLang"),
             ("onnx", "ONNX: ONNX Runtime, transformers.js"))  # fmt: skip
    types = (("", "Q8_0, or as it is quantized"), *((name, name) for name in GGUF_TYPES))
    floats = tuple((name, name) for name in ("float32", "bfloat16", "float16"))
    rounded = (("", "fp32, or as it is quantized"), ("int8", "int8"), ("int4", "int4"))
    return [
        only("quantize", "Format", formats, "int8 is near lossless; mixed is int4 with 8 bits where 4 cost most"),
        only("quantize", "Method", methods, "auto: gptq where there is calibration text and few bits, else nearest"),
        only("formats", "Formats", text_input("formats", "int8,int4", FORMATS), "gptq, hqq: int4 by that method; slow"),
        only(
            "quantize formats",
            "Calibration text",
            text_input("calibration", "notes.txt"),
            "for gptq; token shards, too",
        ),
        only("export", "Format", select("format", kinds)),
        only("gguf", "Matrices", select("type", types)),
        only("hf", "Weights", select("dtype", floats)),
        only("onnx", "Weights", select("weights", rounded)),
        box("gguf hf", "pad_vocabulary", "fill the vocabulary up to a multiple of 8 with unused tokens"),
        box("hf", "dequantize", "write the values of a quantized model"),
        only("verify", "With", text_input("other", "exported/NAME.gguf"), "any format: run, folder, GGUF, ONNX"),
        only("verify", "Largest difference of a logit", text_input("tolerance", "1e-4"), "0.5 suits 8 bits"),
    ]


def settings() -> list[Markup]:
    """What one may leave as it is."""
    measured = select("sensitivity", (("parts", "each part"), ("matrices", "each matrix"), ("none", "neither")))
    graphs = (("fused", "fused: the fast one"), ("portable", "portable: standard operators"), ("both", "both"))
    return [
        only("quantize", "Largest rise of the perplexity", text_input("max_drop", "1%"), "beyond it, it is refused"),
        only("quantize", "Measured alone", measured, "takes most of the time"),
        only("quantize", "Keep", text_input("keep", "in_proj=int8,head=bf16"), "other formats for parts"),
        only("quantize", "Weights of a scale", text_input("block_size", "32")),
        box("quantize formats", "speed", "measure speed, too"),
        only("onnx", "Operators", select("graph", graphs)),
        only("verify", "Tokens of a sequence", text_input("tokens", "64")),
        only("quantize formats gguf onnx verify", "Text to measure on", text_input("text", "held-out.txt"), "UTF-8"),
    ]


def only(when: str, title: str, control: Markup, hint: str | None = None) -> Markup:
    """A question of some choices: `quantize`, `export`, `verify`, or a format to export to."""
    return tag("div", question(title, control, hint), data_when=when)


def box(when: str, name: str, title: str) -> Markup:
    """A box to tick."""
    return tag("div", tag("label", tag("span", tag("input", type="checkbox", name=name), f" {title}")), data_when=when)


def text_input(name: str, placeholder: str, value: str | None = None) -> Markup:
    """A line of text."""
    return tag("input", name=name, value=value, placeholder=placeholder, autocomplete="off", spellcheck="false")


def select(name: str, options: tuple[tuple[str, str], ...]) -> Markup:
    """A choice."""
    return tag("select", [tag("option", text, value=value) for value, text in options], name=name)
