"""A hybrid's decoding step in a few compiled pieces, for one sequence on a CPU."""
