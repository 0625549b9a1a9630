"""Promises of our own series beyond what a plain server shows: adapters, readiness, guesses."""

import pytest

from mamba_slm.serving.cache.disk.disk_cache import DiskCacheSettings
from mamba_slm.serving.engine.load import Load
from mamba_slm.serving.metrics.families import Labels
from mamba_slm.serving.metrics.own import adapter_families, disk_families
from mamba_slm.serving.metrics.recorder import Recorder
from serving.adapters.adapted_engine import adapted_engine, store_of
from serving.adapters.adapter_folders import write_adapter
from serving.engines import random_prompts
from serving.metrics.test_exposition import Scraped
from serving.servers import Served
from small_models import varied_model

MODEL = varied_model(max_context_tokens=96).eval().requires_grad_(False)
LABELS = Labels(("model_name", "engine"), ("small", "0"))


@pytest.fixture
def store(tmp_path):
    for seed, name in enumerate(("ada", "grace")):
        write_adapter(tmp_path / "adapters" / name, MODEL, seed=seed)
    return store_of(MODEL, tmp_path / "adapters", max_bytes=10**6)


def test_adapters_are_told_by_name_running_and_waiting_apart(store):
    engine = adapted_engine(MODEL, store, max_running=1)
    for adapter in ("ada", "grace"):
        engine.submit(random_prompts([9])[0], 20, adapter=store.get(adapter).key)
    engine.core.step()
    load = engine.core.load()
    samples = {sample.name: sample for family in adapter_families(LABELS, load, store) for sample in family.samples}
    labels = samples["vllm:lora_requests_info"].labels
    assert (labels["running_lora_adapters"], labels["waiting_lora_adapters"]) == ("ada", "grace")
    assert labels["max_lora"] == "2" and samples["mamba_slm:adapters"].value == 2
    assert samples["mamba_slm:adapter_bytes"].value == store.num_bytes > 0
    engine.run()
    assert engine.core.load() == Load()


def test_a_server_that_takes_no_requests_is_not_ready():
    served = Served()
    try:
        assert Scraped(served).one("mamba_slm:ready") == 1
        served.service.hindrances.append(lambda: "the test says so")
        assert Scraped(served).one("mamba_slm:ready") == 0
    finally:
        served.close()


def test_states_on_the_disk_are_counted_in_this_life_and_the_next(tmp_path):
    (prompt,) = random_prompts([40])
    told = []
    for _ in range(2):
        served = Served()
        settings = DiskCacheSettings(folder=tmp_path / "disk", min_tokens=8)
        disk = served.engine.core.keeper.keep_on_disk(settings, "the small model")
        served.complete(prompt=prompt)
        served.close()  # writes what still waits
        told.append(
            {
                (sample.name, sample.labels.get("event")): sample.value
                for family in disk_families(LABELS, disk)
                for sample in family.samples
            }
        )
    first, second = told
    states, tokens = "mamba_slm:disk_cache_states_total", ("mamba_slm:disk_cache_restored_tokens_total", None)
    assert first[states, "written"] == first["mamba_slm:disk_cache_files", None] > 0 == first[tokens]
    assert second[states, "restored"] == 1 and 8 <= second[tokens] <= len(prompt)
    assert 0 < second["mamba_slm:disk_cache_bytes", None] <= second["mamba_slm:disk_cache_capacity_bytes", None]


def test_guesses_are_counted_by_their_place():
    recorder = Recorder(96)
    for drafted, accepted in ((4, 4), (4, 1), (3, 0)):
        recorder.guessed(drafted=drafted, accepted=accepted)
    assert (recorder.drafts, recorder.drafted_tokens, recorder.accepted_tokens) == (3, 11, 5)
    assert dict(recorder.accepted_at) == {0: 2, 1: 1, 2: 1, 3: 1}
