"""Adapters by name: a request says which one it wants, and requests of different ones run in one batch."""
