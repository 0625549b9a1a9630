"""What a server tells at /metrics, and what two moments of it say together: rates, and times of what was between."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SERIES = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{(.*)\})?[ \t]+(\S+)", flags=re.MULTILINE | re.ASCII)
LABEL = re.compile(r'\b(\w+)="((?:[^"\\]|\\.)*)"', flags=re.ASCII)
"""Begins where a word does: else a long word without a value would be tried from each of its letters."""
MOST_LABELS = 4096
"""Characters; series with longer ones are none of a server of ours."""
MOST_SERIES = 2000
"""Of one name."""
MOST_BUCKETS = 200

GAUGES = {
    "running": "vllm:num_requests_running",
    "waiting": "vllm:num_requests_waiting",
    "suspended": "mamba_slm:requests_suspended",
    "slots": "mamba_slm:state_slots",
    "queue_capacity": "mamba_slm:queue_capacity",
    "kv_share": "vllm:kv_cache_usage_perc",
    "cache_states": "mamba_slm:cache_states",
    "cache_bytes": "mamba_slm:cache_bytes",
    "cache_capacity_bytes": "mamba_slm:cache_capacity_bytes",
    "disk_cache_bytes": "mamba_slm:disk_cache_bytes",
    "memory_bytes": "process_resident_memory_bytes",
}
COUNTERS = {
    "ended": "vllm:request_success_total",
    "failed": "mamba_slm:failed_requests_total",
    "prompt_tokens": "vllm:prompt_tokens_total",
    "cached_tokens": "vllm:prompt_tokens_cached_total",
    "new_tokens": "vllm:generation_tokens_total",
}
TIMES = {
    "first_token": "vllm:time_to_first_token_seconds",
    "token_gap": "vllm:inter_token_latency_seconds",
    "request": "vllm:e2e_request_latency_seconds",
    "queue": "vllm:request_queue_time_seconds",
}
HTTP_ERRORS = "mamba_slm:http_errors_total"
QUANTILES = (0.5, 0.95)


@dataclass(frozen=True)
class Buckets:
    """How many values were at most each bound; the last bound is infinity."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]

    def since(self, earlier: Buckets | None) -> Buckets:
        """Those that came after an earlier moment of the same histogram."""
        if earlier is None or earlier.bounds != self.bounds:
            return self
        return Buckets(
            self.bounds, tuple(now - before for now, before in zip(self.counts, earlier.counts, strict=True))
        )

    @property
    def count(self) -> float:
        """How many values there are."""
        return self.counts[-1] if self.counts else 0

    def quantile(self, share: float) -> tuple[float, float, float | None] | None:
        """About the value that `share` of the values do not exceed, and the bounds that it lies between for certain.

        Returns: value, lower and upper bound (None: none), or None without values. Between the bounds the value is
            interpolated as if they were spread evenly, as Prometheus does; above the last bound it is that bound.
        """
        wanted, before, low = share * self.count, 0.0, 0.0
        if not self.count > 0:
            return None
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if count >= wanted:
                if bound == float("inf"):
                    return low, low, None
                inside = (wanted - before) / (count - before) if count > before else 1.0
                return low + (bound - low) * inside, low, bound
            before, low = count, bound
        return None


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A server at one time."""

    at: float
    """Seconds since 1970."""
    gauges: Mapping[str, float | None]
    counters: Mapping[str, float]
    """Since the server's start: `COUNTERS`, `refused` (answers 400 to 499) and `errors` (500 and above)."""
    times: Mapping[str, Buckets]
    name: str | None = None
    """Of the model, where the series say it."""

    def is_after(self, earlier: Moment) -> bool:
        """Whether it can be the same process, somewhat later."""
        return all(self.counters[name] >= earlier.counters[name] for name in self.counters)


def parse(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Prometheus' text: name -> labels and value of each of its series. What is no series is passed over.

    >>> parse('# HELP a it\\na_total{x="1"} 2\\nnonsense\\n')
    {'a_total': [({'x': '1'}, 2.0)]}
    """
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for name, labels, written in SERIES.findall(text):
        try:
            value = float(written)
        except ValueError:
            continue
        rows = found.setdefault(name, [])
        if len(labels) <= MOST_LABELS and len(rows) < MOST_SERIES:
            rows.append((dict(LABEL.findall(labels)), value))
    return found


def moment_of(text: str, *, at: float) -> Moment:
    """What a page shows of a server, from the text of its /metrics.

    Args:
        at: when it was read, seconds since 1970.
    """
    series = parse(text)

    def total(name: str, **wanted: str) -> float:
        rows = series.get(name, [])
        return sum(value for labels, value in rows if all(labels.get(k, "")[: len(v)] == v for k, v in wanted.items()))

    counters = {name: total(key) for name, key in COUNTERS.items()}
    counters |= {"refused": total(HTTP_ERRORS, status="4"), "errors": total(HTTP_ERRORS, status="5")}
    return Moment(
        at=at,
        gauges={name: total(key) if key in series else None for name, key in GAUGES.items()},
        counters=counters,
        times={name: buckets_of(series.get(f"{key}_bucket", [])) for name, key in TIMES.items()},
        name=next(
            (labels["model_name"] for labels, _ in series.get(GAUGES["running"], []) if "model_name" in labels), None
        ),
    )


def buckets_of(rows: Sequence[tuple[Mapping[str, str], float]]) -> Buckets:
    """A histogram; series with other labels are added up."""
    counts: dict[float, float] = {}
    for labels, value in rows:
        try:
            bound = float(labels["le"])
        except (KeyError, ValueError):
            continue
        if bound in counts or len(counts) < MOST_BUCKETS:
            counts[bound] = counts.get(bound, 0) + value
    bounds = tuple(sorted(counts))
    return Buckets(bounds, tuple(counts[bound] for bound in bounds))


def between(now: Moment, earlier: Moment | None) -> dict[str, Any]:
    """Rates and times from an earlier moment to now; from the server's start without one, and then no rates."""
    before = earlier.counters if earlier else dict.fromkeys(now.counters, 0.0)
    gained = {name: now.counters[name] - before[name] for name in now.counters}
    seconds = now.at - earlier.at if earlier else None

    def rate(name: str, per: float = 1.0) -> float | None:
        return per * gained[name] / seconds if seconds else None

    return {
        "seconds": seconds,
        "ended": gained["ended"],
        "failed": gained["failed"],
        "refused": gained["refused"],
        "errors": gained["errors"],
        "new_tokens": gained["new_tokens"],
        "prompt_tokens": gained["prompt_tokens"],
        "requests_per_minute": rate("ended", 60.0),
        "new_tokens_per_second": rate("new_tokens"),
        "prompt_tokens_per_second": rate("prompt_tokens"),
        "cached_share": gained["cached_tokens"] / gained["prompt_tokens"] if gained["prompt_tokens"] else None,
        "times": {
            name: times_of(buckets.since(earlier.times.get(name) if earlier else None))
            for name, buckets in now.times.items()
        },
    }


def times_of(buckets: Buckets) -> dict[str, Any]:
    """How many, and their quantiles in seconds: `p50`, and `p50_bounds` that it lies between for certain."""
    row: dict[str, Any] = {"count": buckets.count}
    for share in QUANTILES:
        found = buckets.quantile(share)
        row[f"p{100 * share:g}"] = found[0] if found else None
        row[f"p{100 * share:g}_bounds"] = found[1:] if found else None
    return row
