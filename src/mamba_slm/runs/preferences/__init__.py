"""Pairs of answers to a prompt, and which of the two somebody liked. Files and arithmetic, no torch."""
