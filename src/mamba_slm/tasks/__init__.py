"""Benchmarks that need more than a probability: programs that are run, and the walls around them."""
