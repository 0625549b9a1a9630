"""Answers of models for people, or programs, to compare."""
