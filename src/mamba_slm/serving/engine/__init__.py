"""The engine: one thread owns the model and runs all requests, a step of every one at a time."""
