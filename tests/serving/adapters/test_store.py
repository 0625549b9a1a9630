"""Promises of the store: names inside a directory, no more memory than allowed, nothing pulled from under a request."""

import shutil
import sys
import threading

import pytest

from mamba_slm.core.errors import CheckpointError, ConfigError, DataError, SetupError, UnknownNameError
from mamba_slm.model.packed import nearest_model
from mamba_slm.model.quantization import PLANS
from mamba_slm.serving.adapters.store import AdapterExistsError, NoRoomError
from serving.adapters.adapted_engine import adapted_engine, store_of
from serving.adapters.adapter_folders import write_adapter
from serving.engines import random_prompts
from small_models import varied_model

MODEL = varied_model(max_context_tokens=96).eval().requires_grad_(False)
(PROMPT,) = random_prompts([9])


@pytest.fixture
def folder(tmp_path):
    for seed, name in enumerate(("a", "b", "c")):
        write_adapter(tmp_path / "adapters" / name, MODEL, seed=seed)
    write_adapter(tmp_path / "adapters" / "run" / "adapter", MODEL, seed=7)  # as a run directory keeps it
    (tmp_path / "adapters" / "empty").mkdir()
    write_adapter(tmp_path / "outside", MODEL)
    return tmp_path / "adapters"


def test_every_folder_with_an_adapter_is_offered_by_its_name_and_nothing_is_read_before_it_is_asked_for(folder):
    store = store_of(MODEL, folder)
    assert store.names == ["a", "b", "c", "run"] and store.num_bytes == 0
    assert store.get("run").name == "run" and store.num_bytes == store.get("run").num_bytes
    with pytest.raises(DataError, match="no directory"):
        store_of(MODEL, folder / "nowhere")


@pytest.mark.parametrize("name", ["../outside", "/etc", ".", "..", "", "a/../b", "a/.", "empty", "a\0", "nothing"])
def test_no_name_leads_out_of_the_directory(folder, name):
    store = store_of(MODEL, folder)
    for ask in (store.get, store.load, store.unload):
        with pytest.raises(UnknownNameError):
            ask(name)


def test_the_least_recently_used_goes_when_memory_is_short_and_comes_back_when_asked_for(folder):
    size = store_of(MODEL, folder).get("a").num_bytes
    store = store_of(MODEL, folder, max_bytes=2 * size)
    first = store.get("a")
    store.get("b")
    assert store.get("a") is first
    store.get("c")  # b goes
    assert store.num_bytes == 2 * size and store.get("a") is first
    assert store.get("b").key and store.num_bytes == 2 * size
    with pytest.raises(NoRoomError, match="adapter 'a' takes"):
        store_of(MODEL, folder, max_bytes=size - 1).get("a")


def test_one_that_others_ask_for_is_there_at_every_moment(folder):
    store = store_of(MODEL, folder)
    key, interval = store.get("a").key, sys.getswitchinterval()
    store.get("b")
    asking = threading.Thread(target=lambda: [store.get("a") for _ in range(20_000)])
    sys.setswitchinterval(1e-6)
    try:
        asking.start()
        while asking.is_alive():
            assert store.by_key(key).name == "a"
    finally:
        sys.setswitchinterval(interval)
        asking.join()


def test_what_a_request_uses_stays_in_memory_until_it_ends(folder):
    size = store_of(MODEL, folder).get("a").num_bytes
    store = store_of(MODEL, folder, max_bytes=size)
    engine = adapted_engine(MODEL, store)
    key = store.get("a").key
    number = engine.submit(PROMPT, 6, adapter=key)
    engine.core.step()
    with pytest.raises(NoRoomError):
        store.get("b")
    assert store.unload("a") == 1 and "a" not in store.names
    with pytest.raises(UnknownNameError):
        store.get("a")
    engine.run()
    assert len(engine.tokens(number)) == 6 and store.num_bytes == 0
    assert store.get("b").name == "b"
    with pytest.raises(SetupError, match="'a' was just unloaded"):
        engine.submit(PROMPT, 6, adapter=key)


def test_a_request_that_is_cancelled_or_refused_lets_its_adapter_go(folder):
    store = store_of(MODEL, folder)
    engine = adapted_engine(MODEL, store)
    key = store.get("a").key
    engine.core.cancel(engine.submit(PROMPT, 6, adapter=key))
    with pytest.raises(ConfigError):
        engine.submit([], 6, adapter=key)
    engine.submit(PROMPT, 6, adapter=key)
    engine.core.step()
    engine.core.fail_all(SetupError("the end"))
    assert store.unload("a") == 0 and store.num_bytes == 0


def test_an_engine_without_adapters_refuses_them_by_name():
    from serving.engines import Engine

    with pytest.raises(ConfigError, match="has no adapter 'a@1'"):
        Engine(MODEL).submit(PROMPT, 3, adapter="a@1")


def test_loading_again_takes_the_new_files_and_running_requests_keep_the_old_ones(folder):
    store = store_of(MODEL, folder)
    engine = adapted_engine(MODEL, store)
    before = store.get("a")
    number = engine.submit(PROMPT, 12, adapter=before.key)
    engine.core.step()
    shutil.rmtree(folder / "a")
    write_adapter(folder / "a", MODEL, seed=11)
    with pytest.raises(AdapterExistsError, match="loaded already"):
        store.load("a")
    after = store.load("a", again=True)
    assert after.key != before.key and store.get("a") is after
    assert engine.ask(PROMPT, 12, adapter=after.key) != engine.tokens(number)
    fresh = adapted_engine(
        varied_model(max_context_tokens=96).eval().requires_grad_(False), alone := store_of(MODEL, folder)
    )
    assert fresh.ask(PROMPT, 12, adapter=alone.get("a").key) == engine.ask(PROMPT, 12, adapter=after.key)
    assert store.num_bytes == after.num_bytes


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"parts": ("embedding",)}, "changes embedding"),
        ({"parts": ("in_proj",), "full": ("embedding.weight",)}, "embedding.weight of its own"),
    ],
)
def test_what_cannot_run_beside_others_is_refused_by_name_with_the_way_out(tmp_path, settings, says):
    write_adapter(tmp_path / "all" / "odd", MODEL, **settings)
    with pytest.raises(CheckpointError, match=says) as caught:
        store_of(MODEL, tmp_path / "all").get("odd")
    assert "mamba-slm adapters merge" in caught.value.hint


def test_an_adapter_of_another_model_a_damaged_one_and_dora_over_packed_rows_are_refused(tmp_path):
    other = varied_model(max_context_tokens=96, seed=5)
    write_adapter(tmp_path / "other", other)
    write_adapter(tmp_path / "cut", MODEL)
    file = tmp_path / "cut" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    write_adapter(tmp_path / "dora", MODEL, dora=True)
    store = store_of(MODEL, tmp_path)
    for name, says in (("other", "belongs to another model"), ("cut", "cannot be read")):
        with pytest.raises(CheckpointError, match=says):
            store.get(name)
    assert store.get("dora").name == "dora" and store.names == ["cut", "dora", "other"]
    from mamba_slm.model.fingerprint import fingerprint

    packed = nearest_model(MODEL, PLANS["int8"])
    of_base = fingerprint(MODEL.config, MODEL.state_dict())
    with pytest.raises(CheckpointError, match="one of DoRA"):
        store_of(packed, tmp_path, base_fingerprint=of_base).get("dora")


def test_what_was_unloaded_leaves_the_executor_with_the_next_request_whichever_it_is(folder):
    store = store_of(MODEL, folder)
    engine = adapted_engine(MODEL, store)
    engine.ask(PROMPT, adapter=store.get("a").key)
    assert engine.executor.rows._combinations
    store.unload("a")
    engine.ask(PROMPT)
    assert not engine.executor.rows._combinations
