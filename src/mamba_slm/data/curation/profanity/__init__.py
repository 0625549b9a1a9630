"""Profanity by density: ordinary text has a few such words, and keeps them."""
