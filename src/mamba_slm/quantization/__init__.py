"""Matrices of fewer bits for trained models: which, how they are rounded, and what it costs, measured."""
