"""The results of a run under load as a table, and as a picture: latency against throughput."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mamba_slm.evaluation.long_context.picture import picture

SHOWN = ("p50", "p90", "p95", "p99")
TIMES = ("ttft", "itl", "tpot", "e2e")
HEADER = ("load", "requests", "failed", "new tok/s", "total tok/s", "cached", "time ms", *SHOWN)
RIGHT = tuple(name for name in HEADER if name not in ("load", "time ms"))
EXPLANATION = """\
ttft   from sending a request to its first token        itl   from one event of a stream to the next
tpot   per token behind the first, of a request         e2e   from sending to the end
total  tokens of prompts and answers; cached: share of the prompts' tokens that the server did not read again"""
BUSY_CLIENT = 0.5
"""Cores: a client that needs more may be what is measured."""


def table_rows(results: dict[str, Any]) -> Iterator[list[str]]:
    """Four lines for a level, under HEADER."""
    for level in results["levels"]:
        failed = level["requests"] - level["answered"]
        cached = level["cached_tokens"] / level["prompt_tokens"] if level["prompt_tokens"] else 0.0
        facts = [
            level["level"],
            f"{level['requests']:,}",
            f"{failed:,}",
            f"{level['new_tokens_per_second']:,.1f}",
            f"{level['total_tokens_per_second']:,.1f}",
            f"{cached:.0%}",
        ]
        for name in TIMES:
            if level[name] is not None:
                times = [f"{1e3 * level[name][percentile]:,.1f}" for percentile in SHOWN]
                yield [*facts, name, *times]
                facts = [""] * len(facts)
        if facts[0]:
            yield [*facts, "", *[""] * len(SHOWN)]


def remarks(results: dict[str, Any]) -> Iterator[str]:
    """What to know before the figures are believed."""
    for level in results["levels"]:
        for kind, count in level["errors"].items():
            yield f"{level['level']}: {count:,} of {level['requests']:,} requests failed: {kind}"
        if level["client_cores"] > BUSY_CLIENT:
            yield (
                f"{level['level']}: the client itself kept {level['client_cores']:.1f} cores busy; "
                "run it on another machine than the server"
            )


def client_in_words(results: dict[str, Any]) -> str:
    """What the client cost."""
    most = max(level["client_cores"] for level in results["levels"])
    return f"the client itself kept at most {most:.2f} cores busy"


def load_picture(results: dict[str, Any]) -> str | None:
    """Median and 95th percentile of the first token and of the time per token, by new tokens per second, as SVG; None
    where there are not two levels to connect."""
    levels = sorted(
        (level for level in results["levels"] if level["ttft"] and level["tpot"]),
        key=lambda level: level["new_tokens_per_second"],
    )
    if len({level["new_tokens_per_second"] for level in levels}) < 2:
        return None
    curves = {
        f"{name.upper()}, {percentile}": [
            (level["new_tokens_per_second"], 1e3 * level[name][percentile]) for level in levels
        ]
        for name in ("ttft", "tpot")
        for percentile in ("p50", "p95")
    }
    marks = ", ".join(level["level"] for level in levels)
    return picture(
        curves,
        title=f"{results['model']}: latency against throughput ({marks})",
        x_label="new tokens per second",
        y_label="milliseconds",
        y_unit="count",
        from_zero=True,
    )
