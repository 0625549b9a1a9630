"""Exact and near-duplicates: found by signatures, proven by exact Jaccard, resolved the same way on any machine."""
