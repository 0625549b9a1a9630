"""Matrices of whole numbers of few bits with a scale per block: the format, rounding to it, products with it."""
