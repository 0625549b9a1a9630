"""Benchmarks of lm-evaluation-harness, asked through our own model."""
