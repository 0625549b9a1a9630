"""Our server and llama.cpp's in tables: medians over rounds, and ours over theirs. From the results alone."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

OURS, THEIRS = "ours", "llama.cpp"
Row = dict[str, Any]
LEVEL_COLUMNS: dict[str, Callable[[Row], float]] = {
    "total tok/s": lambda row: row["total_tokens_per_second"],
    "new tok/s": lambda row: row["new_tokens_per_second"],
    "tok per CPU s": lambda row: (row["prompt_tokens"] + row["new_tokens"]) / max(row["server_cpu_seconds"], 1e-9),
    "ttft p50 ms": lambda row: 1e3 * row["ttft"]["p50"],
    "ttft p95 ms": lambda row: 1e3 * row["ttft"]["p95"],
    "itl p50 ms": lambda row: 1e3 * row["itl"]["p50"],
    "itl p95 ms": lambda row: 1e3 * row["itl"]["p95"],
    "e2e p50 ms": lambda row: 1e3 * row["e2e"]["p50"],
}
RATIO = "ours/theirs"


def level_header() -> list[str]:
    """Of `level_rows`."""
    return ["at once", "server", *LEVEL_COLUMNS]


def level_rows(results: Row) -> list[list[str]]:
    """Medians over the rounds of every level and server, and the median of the ratios within the rounds."""
    lines = []
    for concurrency in dict.fromkeys(row["concurrency"] for row in results["levels"]):
        rows = [row for row in results["levels"] if row["concurrency"] == concurrency]
        for name in results["servers"]:
            own = [row for row in rows if row["server"] == name]
            medians = [f"{statistics.median(map(value, own)):,.1f}" for value in LEVEL_COLUMNS.values()]
            lines.append([str(concurrency), name, *medians])
        if len(results["servers"]) > 1:
            lines.append(
                [str(concurrency), RATIO, *(shown(ratio(rows, value)) for value in LEVEL_COLUMNS.values())]
            )  # fmt: skip
    return lines


def reuse_header(results: Row) -> list[str]:
    """Of `reuse_rows`."""
    columns = [f"{name} {what}" for name in results["servers"] for what in ("reused", "ms", "times as fast")]
    return ["prompt", *columns, *([RATIO] if len(results["servers"]) > 1 else [])]


def reuse_rows(results: Row) -> list[list[str]]:
    """By prompt: tokens that were reused, milliseconds to the first token, how many times as fast as a cold one of the
    same server and round, and ours over theirs."""
    lines = []
    for prompt in dict.fromkeys(row["prompt"] for row in results["reuse"]):
        rows = [row for row in results["reuse"] if row["prompt"] == prompt]
        line = [prompt]
        for name in results["servers"]:
            own = [row for row in rows if row["server"] == name]
            times = statistics.median(times_as_fast(results, name, prompt))
            milliseconds = 1e3 * statistics.median(row["seconds"] for row in own)
            line += [f"{own[-1]['cached_tokens']:,}", f"{milliseconds:,.0f}", f"{times:.1f}"]
        if len(results["servers"]) > 1:
            line.append(shown(ratio(rows, lambda row: row["seconds"])))
        lines.append(line)
    return lines


def times_as_fast(results: Row, server: str, prompt: str) -> list[float]:
    """Cold over this prompt, of a server, in every round."""
    own = [row for row in results["reuse"] if row["server"] == server]
    cold, mine = ([row["seconds"] for row in own if row["prompt"] == name] for name in ("cold", prompt))
    return [whole / part for whole, part in zip(cold, mine, strict=True)]


def ratio(rows: Sequence[Row], value: Callable[[Row], float]) -> float | None:
    """Median over the rounds of ours over theirs within the round."""
    by_round: dict[int, dict[str, float]] = {}
    for row in rows:
        by_round.setdefault(row["round"], {})[row["server"]] = value(row)
    pairs = [each[OURS] / each[THEIRS] for each in by_round.values() if len(each) == 2]
    return statistics.median(pairs) if pairs else None


def shown(value: float | None) -> str:
    """For a table."""
    return "" if value is None else f"{value:.2f}"
