"""Adapters over a base whose matrices lie in memory in 4 bits (QLoRA)."""
