"""A hybrid's decoding step as one call of C++, on a CPU."""
