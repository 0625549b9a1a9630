"""report.html of a curation: the funnel as bars, distributions, examples of what each rule removed, settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mamba_slm.core.config import to_dict
from mamba_slm.core.units import format_count
from mamba_slm.data.curation.config import CurateConfig
from mamba_slm.data.curation.funnel import BYTES_PER_TOKEN, Funnel, tokens_text
from mamba_slm.data.curation.report_charts import charts
from mamba_slm.data.curation.tally import Amount, Tally
from mamba_slm.runs.report_page import PARTS, page_template, policy, trusted
from mamba_slm.runs.summary import flat_settings

TEMPLATE = Path(__file__).parent / "page" / "curation.html.j2"
NAVIGATION = (
    ("funnel", "Funnel"),
    ("shapes", "Quality and length"),
    ("examples", "Examples"),
    ("sources", "Sources"),
    ("settings", "Settings"),
)
"""Id of a section → its heading, in the order of the page."""

MOST_PROBLEMS = 20


def render_report(record: Mapping[str, Any], funnel: Funnel) -> str:
    """The page. The same curation gives the same bytes."""
    style, total = (PARTS / "report.css").read_text(encoding="utf-8"), funnel.total
    settings, defaults = flat_settings(record["settings"]), flat_settings(to_dict(CurateConfig()))
    return page_template(TEMPLATE).render(
        policy=policy(style=style, script=""),
        style=trusted(style),
        title=title_of(record),
        headline=headline(total),
        navigation=NAVIGATION,
        figures=figures(total),
        bytes_per_token=BYTES_PER_TOKEN,
        funnel=funnel_rows(funnel),
        kinds=kind_rows(record, funnel),
        changes=counted(total.changes),
        unread=counted(total.unread),
        problems=total.problems[:MOST_PROBLEMS],
        quarantined=funnel.quarantined,
        charts=charts(record, funnel),
        examples=[
            {
                "name": row.rule,
                "anchor": anchor(row.rule),
                "documents": f"{row.amount.documents:,}",
                "examples": row.examples,
            }
            for row in funnel.rows()
        ],
        sources=[{"licence": "", **source} for source in record["sources"]],
        changed=[
            (name, shown(value), shown(defaults.get(name)))
            for name, value in settings.items()
            if value != defaults.get(name)
        ],
        settings=[(name, shown(value)) for name, value in settings.items()],
        fingerprint=record["fingerprint"],
    )


def title_of(record: Mapping[str, Any]) -> str:
    """What was curated."""
    names = [Path(source["name"]).name or source["name"] for source in record["sources"]]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def headline(total: Tally) -> str:
    """The result in a sentence."""
    return (
        f"{total.written.documents:,} of {total.read.documents:,} documents stay "
        f"({share_of(total.written.documents, total.read.documents)}): about {tokens_text(total.written.bytes)} "
        f"of {tokens_text(total.read.bytes)} tokens."
    )


def figures(total: Tally) -> list[tuple[str, str, str]]:
    """Label, value and a note for the row of large numbers."""
    copies = sum(row.documents for rule, row in total.removed.items() if rule.startswith("duplicates."))
    dropped = total.removed.get("quality.bottom", Amount()).documents
    limits = sum(row.documents for row in total.removed.values()) - copies - dropped
    read = total.read.documents
    return [
        ("documents kept", format_count(total.written.documents), f"of {format_count(read)}"),
        ("tokens kept", tokens_text(total.written.bytes), f"of {tokens_text(total.read.bytes)}, estimated"),
        ("broke a rule", format_count(limits), share_of(limits, read)),
        ("lowest scores", format_count(dropped), share_of(dropped, read)),
        ("duplicates", format_count(copies), share_of(copies, read)),
    ]


def funnel_rows(funnel: Funnel) -> list[dict[str, Any]]:
    """The table: what was read, each rule, what was written; with the share that is left after each."""
    total = funnel.total
    read, left = max(1, total.read.documents), total.read.documents
    rows = [row_of("read", total.read, read, left, is_own=True)]
    for row in funnel.rows():
        left -= row.amount.documents
        rows.append(row_of(row.rule, row.amount, read, left, anchor=anchor(row.rule)))
    return [*rows, row_of("written", total.written, read, left, is_own=True)]


def row_of(
    name: str, amount: Amount, read: int, left: int, *, is_own: bool = False, anchor: str = ""
) -> dict[str, Any]:
    """One line of the table."""
    return {
        "name": name,
        "documents": f"{amount.documents:,}",
        "tokens": tokens_text(amount.bytes),
        "share": share_of(amount.documents, read),
        "left": f"{100 * left / read:.2f}%",
        "is_own": is_own,
        "anchor": anchor,
    }


def kind_rows(record: Mapping[str, Any], funnel: Funnel) -> list[tuple[str, ...]]:
    """In and out of each kind, and where its quality cut lies."""
    return [
        (
            kind,
            f"{tally.read.documents:,}",
            tokens_text(tally.read.bytes),
            f"{tally.written.documents:,}",
            tokens_text(tally.written.bytes),
            share_of(tally.written.documents, tally.read.documents),
            f"{record['cuts'][kind]['lowest_score']:.3f}",
        )
        for kind, tally in funnel.kinds.items()
    ]


def counted(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """Counts with their names, largest first."""
    return [(name, f"{count:,}") for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def share_of(part: int, whole: int) -> str:
    """A share in per cent."""
    return f"{part / max(1, whole):.1%}"


def anchor(rule: str) -> str:
    """The id of a rule's examples."""
    return "rule-" + "".join(character if character.isalnum() else "-" for character in rule)


def shown(value: Any) -> str:
    """A setting's value as one would write it."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(shown, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
