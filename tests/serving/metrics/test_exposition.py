"""Promises of `/metrics`: what Prometheus reads there is what happened, under the names that dashboards ask for."""

import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mamba_slm.serving.cache.prefix_cache import CacheSettings
from mamba_slm.serving.metrics.http import UNCOUNTED
from serving.metrics.vllm_dashboards import OF_ENGINES, OF_SERVERS
from serving.servers import Served

OF_THE_MODEL = {"model_name": "small", "engine": "0"}


@pytest.fixture
def served():
    served = Served(cache=CacheSettings(every=16, min_tokens=8))
    yield served
    served.close()


class Scraped:
    """All samples at once."""

    def __init__(self, served):
        answer = served.http.get("/metrics")
        assert answer.status_code == 200 and answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        self.families = list(text_string_to_metric_families(answer.text))
        self.samples = [sample for family in self.families for sample in family.samples]

    def find(self, name, **labels):
        return [
            sample.value for sample in self.samples if sample.name == name and labels.items() <= sample.labels.items()
        ]

    def one(self, name, **labels):
        (value,) = self.find(name, **labels)
        return value


def test_everything_that_vllms_dashboards_ask_for_is_there(served):
    served.complete()
    scraped = Scraped(served)
    absent = [one for one in OF_ENGINES if len(scraped.find(one[0], **OF_THE_MODEL, **one[1])) != 1]
    absent += [one for one in OF_SERVERS if len(scraped.find(one[0], **one[1])) != 1]
    assert not absent


def test_every_series_has_a_help_and_appears_once(served):
    served.complete()
    scraped = Scraped(served)
    assert all(family.documentation for family in scraped.families)
    keys = [(sample.name, *sorted(sample.labels.items())) for sample in scraped.samples]
    assert len(keys) == len(set(keys))
    ours = [sample for sample in scraped.samples if sample.name.startswith(("vllm:", "mamba_slm:"))]
    assert ours and all(OF_THE_MODEL.items() <= sample.labels.items() for sample in ours)


def test_tokens_requests_and_reuse_are_what_the_answers_say(served):
    prompt = "def first(values):\n    return values[0]\n"
    usages = [served.complete(prompt=prompt, max_tokens=tokens).json()["usage"] for tokens in (3, 5)]
    scraped = Scraped(served)
    prompt_tokens = sum(usage["prompt_tokens"] for usage in usages)
    cached = usages[1]["prompt_tokens_details"]["cached_tokens"]
    assert cached > 0
    assert scraped.one("vllm:prompt_tokens_total") == prompt_tokens
    assert scraped.one("vllm:prompt_tokens_cached_total") == scraped.one("vllm:prefix_cache_hits_total") == cached
    assert scraped.one("vllm:prompt_tokens_by_source_total", source="local_compute") == prompt_tokens - cached
    assert scraped.one("vllm:generation_tokens_total") == 8
    assert scraped.one("vllm:request_success_total", finished_reason="length") == 2
    assert scraped.one("vllm:request_generation_tokens_sum") == 8
    assert scraped.one("vllm:request_generation_tokens_bucket", le="2.0") == 0
    assert scraped.one("vllm:request_generation_tokens_bucket", le="5.0") == 2
    assert scraped.one("vllm:time_to_first_token_seconds_count") == 2
    assert scraped.one("vllm:inter_token_latency_seconds_count") == 6
    assert scraped.one("mamba_slm:cache_hits_total") == 1
    assert sum(scraped.find("mamba_slm:cache_misses_total")) == 1
    assert scraped.one("mamba_slm:cache_states") == len(served.engine.core.cache) > 0
    assert scraped.one("mamba_slm:cache_bytes") == served.engine.core.cache.num_bytes


def test_answers_are_counted_by_address_and_status_and_probes_are_not(served):
    for body in ({}, {"max_tokens": 0}, {"model": "other"}, {"stream": True}):
        served.complete(**body)
    served.http.get("/nowhere")
    served.http.request("PROPFIND", "/v1/completions")
    for probe in UNCOUNTED:
        served.http.get(probe)
    scraped = Scraped(served)
    at = "/v1/completions"
    assert scraped.one("http_requests_total", handler=at, method="POST", status="2xx") == 2
    assert scraped.one("http_requests_total", handler=at, method="POST", status="4xx") == 2
    assert scraped.one("mamba_slm:http_errors_total", handler=at, status="400") == 1
    assert scraped.one("mamba_slm:http_errors_total", handler=at, status="404") == 1
    assert scraped.one("mamba_slm:http_errors_total", handler="none", status="404") == 1
    assert scraped.one("http_requests_total", method="other") == 1
    assert scraped.one("http_request_duration_seconds_count", handler=at, method="POST") == 4
    assert scraped.one("http_request_duration_highr_seconds_count") == 6
    assert scraped.one("mamba_slm:http_requests_in_progress") == 0


def test_those_who_leave_and_those_who_are_refused_are_counted(served):
    with served.http.stream(
        "POST", "/v1/completions", json={"prompt": "a", "max_tokens": 200, "stream": True, "ignore_eos": True}
    ) as answer:
        next(answer.iter_raw())
    served.complete(prompt=[5] * 300)
    while not Scraped(served).one("vllm:request_success_total", finished_reason="abort"):
        pass
    scraped = Scraped(served)
    assert scraped.one("vllm:request_success_total", finished_reason="abort") == 1
    assert scraped.one("vllm:admission_rejections_total", reason="invalid") == 1


def test_a_busy_engine_does_not_hold_up_a_scrape(served):
    held = threading.Event()
    served.engine._inbox.put(held.wait)  # the engine's thread does nothing until then
    try:
        assert Scraped(served).one("mamba_slm:ready") == 1
    finally:
        held.set()
