"""Numbers with how they were obtained: bits per byte of a model, beside compressors and an n-gram on the same bytes."""
