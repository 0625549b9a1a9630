"""`GET /metrics`: everything at once, as text that Prometheus reads.

What is shown was counted already, or is read from snapshots; the engine is not asked and does not wait.
"""

from __future__ import annotations

import mamba_slm.serving.metrics.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from collections.abc import Callable, Iterator

from fastapi import APIRouter, FastAPI
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from mamba_slm.serving.api.service import Service
from mamba_slm.serving.metrics.families import Labels
from mamba_slm.serving.metrics.http import CountRequests, HttpCounts, http_families
from mamba_slm.serving.metrics.own import own_families
from mamba_slm.serving.metrics.recorder import Recorder
from mamba_slm.serving.metrics.vllm import vllm_families

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
ENGINE = "0"
"""vLLM's number of a data-parallel engine; a server here has one."""


class Text(PlainTextResponse):
    """Of Prometheus' format."""

    media_type = CONTENT_TYPE


class Families(Collector):
    """What a registry asks on every scrape."""

    def __init__(self, collect: Callable[[], Iterator[Metric]]):
        self._collect = collect

    def describe(self) -> list[Metric]:
        """Nothing is known beforehand."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All series now."""
        return self._collect()


def registry_of(service: Service, recorder: Recorder, counts: HttpCounts) -> CollectorRegistry:
    """Everything that there is to tell, as of each time it is asked."""
    labels = Labels(("model_name", "engine"), (service.model.name, ENGINE))

    def collect() -> Iterator[Metric]:
        yield from vllm_families(labels, service.engine, recorder)
        yield from own_families(labels, service, recorder)
        yield from http_families(labels, counts)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Families(collect))
    ProcessCollector(registry=registry)
    return registry


def install(app: FastAPI, service: Service) -> None:
    """Count what this server does from now on, and tell it at `/metrics`. Call it last: what layers refuse counts."""
    recorder, counts = Recorder(service.model.context_tokens), HttpCounts()
    service.engine.core.observer = recorder
    registry = registry_of(service, recorder, counts)
    routes = APIRouter()

    @routes.get("/metrics", response_class=Text)
    def metrics() -> Text:  # in a thread of its own: the event loop goes on
        """Counts of this server for Prometheus."""
        return Text(generate_latest(registry))

    app.include_router(routes)
    app.add_middleware(CountRequests, counts=counts)
