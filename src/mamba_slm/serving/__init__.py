"""Serving: an engine that runs many requests at once, a cache of what was read, and the HTTP API around it."""
