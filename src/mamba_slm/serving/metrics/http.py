"""Requests by address and status, under the names of prometheus-fastapi-instrumentator, which vLLM's dashboards read.

Counted by the event loop alone. A stream counts when it ends, with the status that it began with.
"""

from __future__ import annotations

import mamba_slm.serving.metrics.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import time
from collections import Counter
from collections.abc import Iterator

from prometheus_client.metrics_core import Metric
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mamba_slm.serving.metrics import buckets
from mamba_slm.serving.metrics.families import Labels
from mamba_slm.serving.metrics.histogram import Histogram

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
UNCOUNTED = frozenset({"/metrics", "/health", "/ready", "/version", "/ping"})
"""Probes would drown the rest."""
NO_ROUTE = "none"
CLIENT_CLOSED = 499
"""nginx's status for a client that went away before anything was sent."""


class HttpCounts:
    """Since the start."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int]] = Counter()
        """By address, method and status."""
        self.seconds: dict[tuple[str, str], Histogram] = {}
        """By address and method."""
        self.all_seconds = Histogram(buckets.HTTP_FINE_SECONDS)
        self.in_progress = 0

    def count(self, handler: str, method: str, status: int, seconds: float) -> None:
        """One is done."""
        self.requests[handler, method, status] += 1
        if (handler, method) not in self.seconds:
            self.seconds = {**self.seconds, (handler, method): Histogram(buckets.HTTP_SECONDS)}  # for who reads now
        self.seconds[handler, method].observe(seconds)
        self.all_seconds.observe(seconds)


class CountRequests:
    """The outermost layer of an application, so that what inner layers refuse counts, too."""

    def __init__(self, app: ASGIApp, *, counts: HttpCounts):
        self._app, self._counts = app, counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count it when it is over."""
        if scope["type"] != "http" or scope["path"] in UNCOUNTED:
            await self._app(scope, receive, send)
            return
        status = None

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        counts, began = self._counts, time.perf_counter()
        counts.in_progress += 1
        failed = False
        try:
            await self._app(scope, receive, sending)
        except Exception:
            failed = True
            raise
        finally:
            counts.in_progress -= 1
            route = scope.get("route")
            handler = getattr(route, "path_format", None) or getattr(route, "path", None) or NO_ROUTE
            method = scope["method"] if scope["method"] in METHODS else "other"
            if status is None:
                status = 500 if failed else CLIENT_CLOSED
            counts.count(handler, method, status, time.perf_counter() - began)


def http_families(of: Labels, counts: HttpCounts) -> Iterator[Metric]:
    """Series without the model's labels, as theirs, and errors with their exact status under our name."""
    plain = Labels((), ())
    by_class: Counter[tuple[str, ...]] = Counter()
    errors: Counter[tuple[str, ...]] = Counter()
    for (handler, method, status), count in dict(counts.requests).items():
        by_class[handler, method, f"{status // 100}xx"] += count
        if status >= 400:
            errors[handler, str(status)] += count
    yield plain.counters("http_requests", "Requests that were answered.", ["handler", "method", "status"], by_class)
    yield plain.histograms(
        "http_request_duration_seconds",
        "Until the last byte of an answer.",
        ["handler", "method"],
        list(counts.seconds.items()),
    )
    yield plain.histogram("http_request_duration_highr_seconds", "Of all addresses together.", counts.all_seconds)
    yield of.counters("mamba_slm:http_errors", "Answers of 400 and above.", ["handler", "status"], errors)
    yield of.gauge("mamba_slm:http_requests_in_progress", "Requests that are being answered.", counts.in_progress)
