"""What the Grafana dashboards of vLLM ask Prometheus for: series, and the labels that they select or group by.

Read from their panels: `examples/observability/prometheus_grafana/grafana.json` at 4b5c627c; Overview, Instances, KV
Cache and Speculative Decoding, which `tools/generate_grafana_dashboards.py` makes at 0b9faa41. Panels of what a server
here cannot have (sleep mode, NIXL, offloading, block residency, FLOPs of GPUs, images) stay empty, as they do in vLLM
without those features.
"""

HISTOGRAMS = (
    "vllm:e2e_request_latency_seconds",
    "vllm:inter_token_latency_seconds",
    "vllm:iteration_tokens_total",
    "vllm:request_decode_time_seconds",
    "vllm:request_generation_tokens",
    "vllm:request_max_num_generation_tokens",
    "vllm:request_prefill_kv_computed_tokens",
    "vllm:request_prefill_time_seconds",
    "vllm:request_prompt_tokens",
    "vllm:request_queue_time_seconds",
    "vllm:request_time_per_output_token_seconds",
    "vllm:time_to_first_token_seconds",
)
OF_ENGINES = (
    ("vllm:generation_tokens_total", {}),
    ("vllm:kv_cache_usage_perc", {}),
    ("vllm:num_preemptions_total", {}),
    ("vllm:num_requests_running", {}),
    ("vllm:num_requests_waiting", {}),
    ("vllm:num_requests_waiting_by_reason", {"reason": "capacity"}),
    ("vllm:num_requests_waiting_by_reason", {"reason": "deferred"}),
    ("vllm:prefix_cache_hits_total", {}),
    ("vllm:prefix_cache_queries_total", {}),
    ("vllm:prompt_tokens_by_source_total", {"source": "external_kv_transfer"}),
    ("vllm:prompt_tokens_by_source_total", {"source": "local_cache_hit"}),
    ("vllm:prompt_tokens_by_source_total", {"source": "local_compute"}),
    ("vllm:prompt_tokens_cached_by_source_total", {"source": "device"}),
    ("vllm:prompt_tokens_cached_total", {}),
    ("vllm:prompt_tokens_total", {}),
    ("vllm:request_success_total", {"finished_reason": "abort"}),
    ("vllm:request_success_total", {"finished_reason": "error"}),
    ("vllm:request_success_total", {"finished_reason": "length"}),
    ("vllm:request_success_total", {"finished_reason": "stop"}),
    ("vllm:spec_decode_num_accepted_tokens_total", {}),
    ("vllm:spec_decode_num_draft_tokens_total", {}),
    ("vllm:spec_decode_num_drafts_total", {}),
    *((f"{name}_{part}", {}) for name in HISTOGRAMS for part in ("sum", "count")),
    *((f"{name}_bucket", {"le": "+Inf"}) for name in HISTOGRAMS),
    *(
        ("vllm:time_to_first_token_seconds_bucket", {"le": le})
        for le in ("0.1", "0.25", "0.5", "0.75", "1.0", "2.5", "5.0", "10.0")
    ),
    *(
        ("vllm:request_time_per_output_token_seconds_bucket", {"le": le})
        for le in ("0.025", "0.05", "0.075", "0.1", "0.15", "0.2", "0.3", "0.5")
    ),
)
"""Each with `model_name` and `engine`."""
OF_SERVERS = (
    ("http_request_duration_seconds_count", {"handler": "/v1/completions"}),
    ("http_request_duration_seconds_sum", {"handler": "/v1/completions"}),
    ("http_requests_total", {"handler": "/v1/completions", "status": "2xx"}),
    ("process_cpu_seconds_total", {}),
    ("process_max_fds", {}),
    ("process_open_fds", {}),
    ("process_resident_memory_bytes", {}),
    ("process_start_time_seconds", {}),
    ("vllm:cache_config_info", {"block_size": "8", "enable_prefix_caching": "True", "num_gpu_blocks": "512"}),
)
"""Of the process; the dashboards select them by `job` and `instance`, which Prometheus adds."""
