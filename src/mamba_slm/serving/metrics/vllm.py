"""Series under the names of vLLM 0.33, where they mean the same here; dashboards made for it work unchanged.

Not there, because nothing here corresponds: `engine_sleep_state`, `mm_cache_*`, `num_requests_kv_fetch_by_stage`,
`kv_block_*_seconds`, `estimated_*_per_gpu`, `corrupted_requests`, `watermark_requests`, and those of KV connectors.
"""

from __future__ import annotations

import mamba_slm.serving.metrics.libraries  # noqa: F401 (first: it says what to install)

# isort: split
from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from mamba_slm.serving.engine.thread import Engine
from mamba_slm.serving.metrics.families import Labels
from mamba_slm.serving.metrics.recorder import Recorder


def vllm_families(of: Labels, engine: Engine, recorder: Recorder) -> Iterator[Metric]:
    """All of them, as of now."""
    yield from gauges(of, engine)
    yield from counters(of, engine, recorder)
    yield from histograms(of, recorder)


def gauges(of: Labels, engine: Engine) -> Iterator[Metric]:
    """What the scheduler does."""
    load, core = engine.load, engine.core
    yield of.gauge("vllm:num_requests_running", "Requests that have a slot.", load.running)
    yield of.gauge("vllm:num_requests_waiting", "Requests that have none, suspended ones included.", load.waiting)
    yield of.gauges(
        "vllm:num_requests_waiting_by_reason",
        "capacity: no slot or no room; deferred: another request is reading what this one begins with.",
        "reason",
        {"capacity": load.waiting - load.deferred, "deferred": load.deferred},
    )
    usage = "Share of the blocks of keys and values that running requests hold, 0 to 1."
    yield of.gauge("vllm:kv_cache_usage_perc", usage, load.kv_usage)
    yield of.info(
        "vllm:cache_config_info",
        "How keys and values are kept.",
        {
            "block_size": str(core.settings.block_tokens),
            "num_gpu_blocks": str(core.num_blocks),
            "enable_prefix_caching": str(core.settings.cache.max_bytes > 0),
        },
    )
    yield of.gauge("vllm:gpu_cache_usage_perc", "Older name of kv_cache_usage_perc.", load.kv_usage)
    yield of.gauge("vllm:num_requests_swapped", "Older name: requests whose states were moved out.", load.suspended)


def counters(of: Labels, engine: Engine, recorder: Recorder) -> Iterator[Metric]:
    """Tokens, ends, reuse."""
    cache = engine.core.cache.counts
    read, cached = recorder.read_tokens, recorder.cached_tokens
    yield of.counter("vllm:prompt_tokens", "Tokens of prompts, read or reused.", read + cached)
    yield of.counters(
        "vllm:prompt_tokens_by_source",
        "Tokens of prompts that were read by the model, and whose states were there.",
        ["source"],
        {("local_compute",): read, ("local_cache_hit",): cached, ("external_kv_transfer",): 0},
    )
    yield of.counter("vllm:prompt_tokens_cached", "Tokens of prompts whose states were there.", cached)
    yield of.counters(
        "vllm:prompt_tokens_cached_by_source",
        "Where those states were.",
        ["source"],
        {("device",): cached},
    )
    yield of.counter("vllm:generation_tokens", "New tokens.", recorder.made_tokens)
    yield of.counters(
        "vllm:request_success",
        "Requests by how they ended: stop, length, abort (nobody waits for it any more), error.",
        ["finished_reason"],
        {(end,): count for end, count in dict(recorder.ends).items()},
    )
    yield of.counter("vllm:prefix_cache_queries", "Tokens of prompts that were looked up.", cache.prompt_tokens)
    yield of.counter("vllm:prefix_cache_hits", "Of them, tokens whose states were there.", cache.reused_tokens)
    yield of.counter(
        "vllm:num_preemptions",
        "How often a request gave its slot to another. Nothing is computed again: its state comes back.",
        recorder.suspensions,
    )
    yield of.counters(
        "vllm:admission_rejections",
        "Requests that the engine refused: the queue was full, or the model cannot continue them.",
        ["reason"],
        {(reason,): count for reason, count in dict(recorder.refusals).items()},
    )
    yield of.counter("vllm:spec_decode_num_drafts", "How often tokens were guessed ahead.", recorder.drafts)
    yield of.counter("vllm:spec_decode_num_draft_tokens", "Tokens that were guessed.", recorder.drafted_tokens)
    yield of.counter("vllm:spec_decode_num_accepted_tokens", "Of them, right ones.", recorder.accepted_tokens)
    yield of.counters(
        "vllm:spec_decode_num_accepted_tokens_per_pos",
        "Right guesses by their place among those made together.",
        ["position"],
        {(str(position),): count for position, count in sorted(dict(recorder.accepted_at).items())},
    )


def histograms(of: Labels, recorder: Recorder) -> Iterator[Metric]:
    """Of seconds and tokens."""
    gap = recorder.token_gap_seconds
    for name, help, histogram in (
        ("time_to_first_token_seconds", "From submission until the first token.", recorder.first_token_seconds),
        ("inter_token_latency_seconds", "From new tokens of a request to the next.", gap),
        ("time_per_output_token_seconds", "Older name of inter_token_latency_seconds.", gap),
        ("request_time_per_output_token_seconds", "Mean of a request after its first.", recorder.token_mean_seconds),
        ("e2e_request_latency_seconds", "From submission until the last token.", recorder.total_seconds),
        ("request_queue_time_seconds", "Until a request gets its slot.", recorder.queue_seconds),
        ("request_inference_time_seconds", "From the slot until the last token.", recorder.running_seconds),
        ("request_prefill_time_seconds", "From the slot until the first token.", recorder.reading_seconds),
        ("request_decode_time_seconds", "From the first token until the last.", recorder.making_seconds),
        ("request_prompt_tokens", "Length of prompts.", recorder.prompt_tokens),
        ("request_generation_tokens", "New tokens of a request.", recorder.new_tokens),
        ("request_prefill_kv_computed_tokens", "Tokens of a prompt that were read.", recorder.computed_prompt_tokens),
        ("request_max_num_generation_tokens", "New tokens that a request may have.", recorder.most_new_tokens),
        ("request_params_max_tokens", "New tokens that a request may have.", recorder.most_new_tokens),
        ("request_num_preemptions", "How often a request gave up its slot.", recorder.suspensions_each),
        ("iteration_tokens_total", "Tokens that the model computed in a step.", recorder.step_tokens),
    ):
        yield of.histogram(f"vllm:{name}", help, histogram)
