"""Documents that hold questions of benchmarks, which a model must not have seen."""
