"""Functions that a model may call: how they are shown to it, what its calls must look like, and how they are read."""
