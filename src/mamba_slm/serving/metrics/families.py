"""Series in Prometheus' form, all with the labels `model_name` and `engine` that vLLM's dashboards select by."""

from __future__ import annotations

import mamba_slm.serving.metrics.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from mamba_slm.serving.metrics.histogram import Histogram


@dataclass(frozen=True)
class Labels:
    """What every series of one server has in common."""

    names: tuple[str, ...]
    values: tuple[str, ...]

    def gauge(self, name: str, help: str, value: float) -> Metric:
        """What is now."""
        family = GaugeMetricFamily(name, help, labels=self.names)
        family.add_metric(self.values, value)
        return family

    def gauges(self, name: str, help: str, label: str, values: Mapping[str, float]) -> Metric:
        """What is now, of each kind."""
        family = GaugeMetricFamily(name, help, labels=(*self.names, label))
        for kind, value in values.items():
            family.add_metric((*self.values, kind), value)
        return family

    def info(self, name: str, help: str, facts: Mapping[str, str], *, value: float = 1.0) -> Metric:
        """Facts as labels of a series whose value says nothing, or when they held."""
        family = GaugeMetricFamily(name, help, labels=(*self.names, *facts))
        family.add_metric((*self.values, *facts.values()), value)
        return family

    def counter(self, name: str, help: str, value: float) -> Metric:
        """What has happened so far; its series ends in `_total`."""
        family = CounterMetricFamily(name, help, labels=self.names)
        family.add_metric(self.values, value)
        return family

    def counters(self, name: str, help: str, labels: Sequence[str], values: Mapping[tuple[str, ...], float]) -> Metric:
        """What has happened so far, of each kind."""
        family = CounterMetricFamily(name, help, labels=(*self.names, *labels))
        for kind, value in values.items():
            family.add_metric((*self.values, *kind), value)
        return family

    def histogram(self, name: str, help: str, histogram: Histogram) -> Metric:
        """How large things were."""
        return self.histograms(name, help, (), [((), histogram)])

    def histograms(
        self, name: str, help: str, labels: Sequence[str], values: Iterable[tuple[tuple[str, ...], Histogram]]
    ) -> Metric:
        """How large things of each kind were."""
        family = HistogramMetricFamily(name, help, labels=(*self.names, *labels))
        for kind, histogram in values:
            bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
            counts = [*map(float, histogram.cumulative())]
            family.add_metric((*self.values, *kind), list(zip(bounds, counts, strict=True)), histogram.total)
        return family
