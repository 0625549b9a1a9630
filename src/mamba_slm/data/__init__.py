"""Documents to token shards to weighted mixtures to packed batches, with exact resume. NumPy only, no torch."""
