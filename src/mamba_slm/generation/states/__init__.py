"""Inference states outside of a call: on disk, in a cache of prompts, and bound to the model they belong to."""
