"""Where the time of a training step goes: a trace of some steps, and tables made from it."""
