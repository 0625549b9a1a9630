"""Promises of `deploy/`, in so far as they need no other program: names that are asked for are told."""

import json
import re

from prometheus_client.parser import text_string_to_metric_families

from mamba_slm.serving.cache.disk.disk_cache import DiskCacheSettings
from serving.adapters.adapted_engine import store_of
from serving.deploy import DEPLOY, METRIC, dashboard_queries
from serving.servers import Served

SOMETIMES = {"mamba_slm:gpu_memory_bytes"}
"""Where there is a GPU."""


def told(tmp_path):
    """Every name at `/metrics` of a server with adapters and a disk, after a request and a refused one."""

    def more(served):
        return {"adapters": store_of(served.model, tmp_path)}

    served = Served(service=more)
    served.engine.core.keeper.keep_on_disk(DiskCacheSettings(folder=tmp_path / "disk"), "the small model")
    try:
        served.complete()
        served.complete(max_tokens=0)
        text = served.http.get("/metrics").text
    finally:
        served.close()
    return {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}


def test_dashboards_and_alerts_ask_only_for_what_is_told(tmp_path):
    names = told(tmp_path) | SOMETIMES
    asked = {name for query in dashboard_queries().values() for name in METRIC.findall(query)}
    alerts = (DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8")
    asked |= {name for name in METRIC.findall(alerts) if name not in {"process_max", "http_errors"}}
    of_descriptions = {"mamba_slm:state_slots", "request_queue_time_seconds", "request_prefill_time_seconds"}
    assert asked - names - of_descriptions == set()


def test_the_dashboard_places_every_panel_once_and_shows_every_series_of_ours(tmp_path):
    panels = json.loads((DEPLOY / "grafana" / "mamba-slm.json").read_text(encoding="utf-8"))["panels"]
    cells = [
        (x, y)
        for box in (panel["gridPos"] for panel in panels)
        for x in range(box["x"], box["x"] + box["w"])
        for y in range(box["y"], box["y"] + box["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) == 23
    assert len({panel["id"] for panel in panels}) == len(panels)
    shown = " ".join(dashboard_queries().values())
    ours = {re.sub(r"_(bucket|sum|count)$", "", name) for name in told(tmp_path) if name.startswith("mamba_slm:")}
    not_worth_a_panel = {
        "build_info",
        "state_bytes",
        "queue_capacity",
        "cache_queries_total",
        "adapters",
        "disk_cache_files",
    }
    assert {name for name in ours if name not in shown} == {f"mamba_slm:{name}" for name in not_worth_a_panel}
