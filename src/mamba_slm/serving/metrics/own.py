"""Series that vLLM has no names for: the cache of states, slots, suspensions, steps, devices."""

from __future__ import annotations

import mamba_slm.serving.metrics.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import time
from collections.abc import Iterable, Iterator

from prometheus_client.metrics_core import Metric

from mamba_slm import __version__
from mamba_slm.serving.adapters.store import AdapterStore
from mamba_slm.serving.api.service import Service
from mamba_slm.serving.cache.disk.disk_cache import DiskCache
from mamba_slm.serving.engine.load import Load
from mamba_slm.serving.engine.thread import Engine
from mamba_slm.serving.metrics.devices import gpu_bytes
from mamba_slm.serving.metrics.families import Labels
from mamba_slm.serving.metrics.recorder import Recorder


def own_families(of: Labels, service: Service, recorder: Recorder) -> Iterator[Metric]:
    """All of them, as of now."""
    engine = service.engine
    yield of.info("mamba_slm:build_info", "What runs.", {"version": __version__})
    yield of.gauge("mamba_slm:ready", "Whether requests are taken.", service.reason_not_ready() is None)
    yield from cache_families(of, engine)
    yield from state_families(of, engine, recorder)
    if engine.core.keeper.disk is not None:
        yield from disk_families(of, engine.core.keeper.disk)
    if service.adapters is not None:
        yield from adapter_families(of, engine.load, service.adapters)
    memory = gpu_bytes()
    if memory:
        yield of.gauges("mamba_slm:gpu_memory_bytes", "Of the device, and of it by this process.", "kind", memory)


def cache_families(of: Labels, engine: Engine) -> Iterator[Metric]:
    """The prefix cache."""
    cache = engine.core.cache
    counts = cache.counts
    yield of.counter("mamba_slm:cache_queries", "Prompts that were looked up.", counts.queries)
    yield of.counter("mamba_slm:cache_hits", "Prompts of which a part was reused.", counts.hits)
    yield of.counters(
        "mamba_slm:cache_misses",
        "Prompts of which nothing was: no_match, too_short, evicted, salt (another namespace has it), disabled.",
        ["reason"],
        {(reason,): count for reason, count in dict(counts.misses).items()},
    )
    yield of.counter("mamba_slm:cache_stored_states", "States put in.", counts.stored)
    yield of.counter("mamba_slm:cache_evicted_states", "States that had to go.", counts.evicted)
    yield of.gauge("mamba_slm:cache_states", "States that are there.", len(cache))
    yield of.gauge("mamba_slm:cache_bytes", "Of states, and of keys and values that they hold.", cache.num_bytes)
    yield of.gauge("mamba_slm:cache_capacity_bytes", "What the cache may hold.", cache.settings.max_bytes)


def disk_families(of: Labels, disk: DiskCache) -> Iterator[Metric]:
    """States that outlive the server; only where it keeps any."""
    counts = disk.counts
    yield of.counters(
        "mamba_slm:disk_cache_states",
        "written; restored for a prompt; refused: damaged or foreign; dropped: too many waited, or the disk failed.",
        ["event"],
        {
            ("written",): counts.written,
            ("restored",): counts.restored,
            ("refused",): counts.refused,
            ("dropped",): counts.dropped,
        },
    )
    yield of.counter("mamba_slm:disk_cache_restored_tokens", "Of prompts, not read for that.", counts.restored_tokens)
    yield of.gauge("mamba_slm:disk_cache_files", "States on the disk.", len(disk.files))
    yield of.gauge("mamba_slm:disk_cache_bytes", "Of them.", disk.files.num_bytes)
    yield of.gauge("mamba_slm:disk_cache_capacity_bytes", "What they may take.", disk.settings.max_bytes)


def state_families(of: Labels, engine: Engine, recorder: Recorder) -> Iterator[Metric]:
    """Slots, and steps of the engine."""
    load, core = engine.load, engine.core
    yield of.gauge("mamba_slm:state_slots", "Requests that can run at the same time.", core.settings.max_running)
    yield of.gauge("mamba_slm:state_slots_used", "Of them, those that run.", load.running)
    yield of.gauge("mamba_slm:state_bytes", "What Mamba layers remember of one text.", core.state_bytes)
    yield of.gauge("mamba_slm:queue_capacity", "Requests that may wait.", core.settings.max_waiting)
    yield of.gauge("mamba_slm:requests_suspended", "Requests that gave their slots back for now.", load.suspended)
    yield of.counter("mamba_slm:suspensions", "States that were moved out of their slots.", recorder.suspensions)
    yield of.histogram("mamba_slm:step_seconds", "Time of a step; its sum is the engine's work.", recorder.step_seconds)
    yield of.counter("mamba_slm:failed_requests", "Requests that ended with an error.", recorder.ends["error"])


def adapter_families(of: Labels, load: Load, store: AdapterStore) -> Iterator[Metric]:
    """Adapters, under vLLM's name and ours; only where the server offers any."""

    def names(keys: Iterable[str]) -> str:
        return ",".join(sorted(key.rpartition("@")[0] for key in keys))

    yield of.info(
        "vllm:lora_requests_info",
        "Adapters of running and waiting requests, as of the second that is its value.",
        {
            "max_lora": str(len(store.names)),
            "running_lora_adapters": names(load.adapters_running),
            "waiting_lora_adapters": names(load.adapters_waiting),
        },
        value=time.time(),
    )
    yield of.gauge("mamba_slm:adapters", "Adapters that are offered.", len(store.names))
    yield of.gauge("mamba_slm:adapter_bytes", "Of the adapters in memory.", store.num_bytes)
    yield of.gauge("mamba_slm:adapter_capacity_bytes", "What they may take.", store.settings.max_bytes)
