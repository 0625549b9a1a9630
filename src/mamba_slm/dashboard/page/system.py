"""The machine, who uses it, and what doctor says about it."""

from __future__ import annotations

import importlib.metadata
import platform

from mamba_slm import __version__
from mamba_slm.dashboard.page.layout import Place, command_line, page, section
from mamba_slm.dashboard.page.markup import Markup, tag
from mamba_slm.runs.machine import processor_name

MEASURES = (
    ("none", "look only, a few seconds"),
    ("quick", "and time the kernels, about ten seconds"),
    ("thorough", "and compilers and threads, about two minutes"),
)
PACKAGES = ("torch", "numpy", "tokenizers", "safetensors", "transformers", "onnxruntime", "starlette", "uvicorn")
CHARTS = (("processor", "Processor"), ("memory", "Memory"), ("gpu", "GPU"))


def system_page(place: Place) -> str:
    """The page; its script fills it."""
    return page(
        place,
        "system",
        "System",
        tag("h1", "This machine"),
        section("Now", now(), id="now"),
        section("Who uses it", users(), id="who"),
        section("Doctor", doctor(place), id="doctor"),
        section("Versions", versions(), id="versions"),
        script="system.js",
        style="system.css",
    )


def now() -> Markup:
    """Bars, and curves of what was seen since somebody looks."""
    charts = [
        tag(
            "figure",
            tag("figcaption", tag("b", title)),
            tag("canvas", id=f"chart-{name}", tabindex="0", role="img", aria_label=f"{title}: chart of the last looks"),
            class_="chart",
            id=f"figure-{name}",
            hidden=name == "gpu",
        )
        for name, title in CHARTS
    ]
    return tag(
        "div",
        tag("div", tag("p", "looking …", class_="hint"), id="bars", class_="parts"),
        tag("p", "", id="now-said", class_="hint"),
        tag("div", charts, class_="charts"),
    )


def users() -> Markup:
    """Ours first, then the largest others."""
    heads = ("what", "pid", "processes", "cores", "memory", "GPU memory")
    table = tag(
        "table", tag("thead", tag("tr", [tag("th", name, scope="col") for name in heads])), tag("tbody", id="rows")
    )
    return tag(
        "div",
        tag("div", table, class_="scroll", tabindex="0", role="region", aria_label="Table of processes"),
        tag(
            "p",
            "A row of ours counts everything that its process started. Memory that processes share counts in each. "
            "Others are shown by the name of their program only.",
            class_="hint",
        ),
    )  # fmt: skip


def doctor(place: Place) -> Markup:
    """A button that starts the examination, and the last one."""
    choices = [tag("option", text, value=name) for name, text in MEASURES]
    form = tag(
        "form",
        tag("button", "Examine", type="submit", id="examine"),
        tag("label", "Effort ", tag("select", choices, name="measure")),
        id="doctor-form",
        class_="controls",
    )
    return tag(
        "div",
        None if place.is_read_only else form,
        command_line("mamba-slm doctor --json --measure none", id="doctor-command"),
        tag("p", "", id="doctor-said", role="status"),
        tag("div", id="to-mend", class_="cards"),
        tag("details", tag("summary", "Everything that was looked at"), tag("div", id="checks"), id="all", hidden=True),
    )


def versions() -> Markup:
    """What runs here; libraries that are not installed say so."""
    rows = [
        ("mamba-slm", __version__),
        ("Python", platform.python_version()),
        ("system", f"{platform.system()} {platform.release()} {platform.machine()}"),
        ("processor", processor_name()),
        *((name, version_of(name)) for name in PACKAGES),
    ]
    return tag("dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in rows], class_="versions")


def version_of(package: str) -> str:
    """The installed version, without importing it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
