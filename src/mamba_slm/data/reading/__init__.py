"""Readers, one file per format: each gives documents, and problems with their place, one after another."""
