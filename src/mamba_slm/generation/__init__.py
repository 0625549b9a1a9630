"""From a model and token ids to token ids, then to text: samplers, decode loops, streaming, a terminal chat."""
