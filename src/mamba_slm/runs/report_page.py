"""The report card as one HTML file: nothing is fetched, everything works without a script, the same bytes every time.

Whatever comes from the run is escaped by the template. Should a piece slip through all the same, the page's own policy
stops it: only the one script and the one style sheet with the recorded hashes run.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

from mamba_slm.core.units import format_bytes
from mamba_slm.runs import report_background as background
from mamba_slm.runs import report_benchmarks as asked
from mamba_slm.runs import report_layers as inside
from mamba_slm.runs import report_outcome as outcome
from mamba_slm.runs import report_page_tables as tables
from mamba_slm.runs.before_after import HEADER, change_rows
from mamba_slm.runs.evidence import Evidence, number, section
from mamba_slm.runs.markdown import printable
from mamba_slm.runs.report_before_after import NOTE, changes
from mamba_slm.runs.report_page_charts import SMOOTHING, charts
from mamba_slm.runs.report_page_samples import sample_steps
from mamba_slm.runs.report_page_tables import SettingsFacts
from mamba_slm.runs.svg_heat import render_heat

PARTS = Path(__file__).with_name("page")
TONES = {"good": "✓", "warning": "⚠", "bad": "✗"}
STATES = {"done": "finished", "running": "not finished", "stopped": "stopped", "failed": "failed"}
MOST_EVENTS = 60
MOST_FILES = 60
NAVIGATION = (
    ("result", "Result"),
    ("curves", "Curves"),
    ("benchmarks", "Benchmarks"),
    ("layers", "Layers"),
    ("samples", "Samples"),
    ("plan", "Plan and outcome"),
    ("happened", "What happened"),
    ("data", "Data"),
    ("model", "Model"),
    ("settings", "Settings"),
    ("environment", "Environment"),
    ("again", "The same again"),
    ("files", "Files"),
)
"""Id of a section → its heading, in the order of the page."""


def render_page(evidence: Evidence, facts: SettingsFacts | None = None) -> str:
    """The page of a run.

    Args:
        evidence: what the run directory says, with secrets and home folders hidden.
        facts: defaults and sizes; None leaves them out.
    """
    style, script = ((PARTS / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    figures, numbers = charts(evidence)
    return page_template(PARTS / "report.html.j2").render(
        policy=policy(style=style, script=script),
        style=trusted(style),
        script=trusted(script),
        numbers=trusted(data_block({**numbers, "smoothing": SMOOTHING} if numbers else {})),
        navigation=NAVIGATION,
        charts=figures,
        has_marks=bool(numbers.get("marks")),
        **content(evidence, facts or SettingsFacts()),
    )


@functools.cache
def page_template(path: Path) -> Any:
    """The template of a page: everything that it is given is escaped, and a name that it is not given is an error."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=printable_text
    )
    environment.filters |= {"code_spans": code_spans, "trusted": trusted}
    return environment.from_string(path.read_text(encoding="utf-8"))


def content(evidence: Evidence, facts: SettingsFacts) -> dict[str, Any]:
    """Everything the template shows besides the charts."""
    samples, samples_note = sample_steps(evidence)
    train = [row for row in evidence.train if row["loss"] is not None]
    validation = [row for row in evidence.validation if row["loss"] is not None]
    state = evidence.status.state if evidence.status else "unknown"
    all_files = background.file_rows(evidence)
    return {
        "title": background.title(evidence),
        "headline": outcome.headline(evidence),
        "state": state,
        "state_text": STATES.get(state, "state unknown"),
        "judgements": [(tone, TONES[tone], text) for tone, text in outcome.judgements(evidence)],
        "problems": evidence.problems,
        "figures": tables.key_figures(evidence),
        "comparison": tables.comparison(evidence),
        "measured_bytes": tables.measured_bytes(evidence),
        "change_header": HEADER,
        "change_rows": change_rows(changes(evidence)),
        "change_note": NOTE,
        "loss_header": outcome.LOSS_HEADER,
        "loss_rows": outcome.loss_rows(train, validation),
        "has_validation": bool(validation),
        "benchmark_header": asked.HEADER,
        "benchmark_rows": asked.rows_of(evidence),
        "benchmark_charts": asked.charts(evidence),
        "heats": [
            {"key": heat.key, "title": heat.title, "unit": heat.unit, "value": heat.value, "svg": render_heat(heat)}
            for heat in inside.heats(evidence)
        ],
        "layer_header": inside.LAYER_HEADER,
        "layer_rows": inside.layer_rows(evidence),
        "source_header": inside.SOURCE_HEADER,
        "source_rows": inside.source_rows(evidence),
        "samples": samples,
        "samples_note": samples_note,
        "plan": tables.plan_rows(evidence),
        "plan_how": str(evidence.estimate.get("how") or ""),
        "plan_memory": [
            (name.replace("_", " "), format_bytes(size))
            for name, size in section(evidence.estimate, "memory").items()
            if isinstance(size, int | float) and size >= 1
        ],
        "is_final": bool(evidence.result),
        "earlier_events": max(0, len(evidence.events) - MOST_EVENTS),
        "has_rows": bool(evidence.train),
        "data": tables.data_rows(evidence),
        "passes": (passes := tables.passes_over_sources(evidence)),
        "passes_text": tables.passes_text(passes or 0.0),
        "tokenizer": tables.tokenizer_facts(evidence),
        "strip": tables.strip(evidence),
        "strip_text": tables.counted_sublayers(str(section(evidence.config, "model").get("pattern") or "")),
        "sizes": [(name, tables.plain(value)) for name, value in section(evidence.config, "model").items()],
        "context_memory": [
            (f"{tokens:,}", format_bytes(own), format_bytes(twin), f"{100 * own / max(own, twin):.2f}%")
            for tokens, own, twin in facts.context_memory
        ],
        "made_for": outcome.shown(number(section(evidence.config, "model"), "max_context_tokens"), "{:,.0f}".format),
        "settings": tables.settings_rows(evidence, facts),
        "defaults_of": facts.defaults_of,
        "environment": tables.environment(evidence),
        "commands": tables.commands(evidence),
        "conditions": tables.conditions(evidence),
        "files": [(name, format_bytes(size), marks) for name, size, marks in all_files[:MOST_FILES]],
        "more_files": max(0, len(all_files) - MOST_FILES),
        "events": event_rows(evidence),
        "parameters": [(row["name"], row["count"], row["share"]) for row in tables.parameter_rows(facts)],
        "changed_settings": [
            (row["name"], row["value"], row["default"])
            for row in tables.settings_rows(evidence, facts)
            if row["differs"] is not False
        ],
    }


def event_rows(evidence: Evidence) -> list[tuple[str, str, str]]:
    """Step, kind and text of the last events."""
    return [
        (
            outcome.shown(number(row, "step"), "{:,.0f}".format),
            str(row["event"]),
            str(row["text"])[: outcome.EVENT_CHARACTERS],
        )
        for row in evidence.events[-MOST_EVENTS:]
    ]


def policy(*, style: str, script: str) -> str:
    """The content security policy: these two texts, and nothing from anywhere."""
    return (
        f"default-src 'none'; style-src '{fingerprint(style)}'; script-src '{fingerprint(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def fingerprint(text: str) -> str:
    """The hash of an inline element's text, as a policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def data_block(value: Any) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def printable_text(value: Any) -> Any:
    """Text from the run without control characters; markup of our own as it is."""
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def trusted(markup: str) -> Any:
    """Markup of our own, which is not escaped again."""
    from markupsafe import Markup

    return Markup(markup)


def code_spans(text: str) -> Any:
    """Escaped text in which `backticks` become <code>."""
    return trusted(re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(printable(str(text)))))
