"""Hugging Face: a folder that transformers loads with its own `GraniteMoeHybridForCausalLM`."""
