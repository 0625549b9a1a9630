"""CPU kernels in C++: compiled once per machine in seconds, tested, then taken by the operations they belong to."""
