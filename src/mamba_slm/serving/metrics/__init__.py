"""What a server did, in numbers that Prometheus collects: vLLM's names where they mean the same, ours for the rest."""
