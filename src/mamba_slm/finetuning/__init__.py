"""Trained models made better at something: instructions, adapters, preferences, rewards."""
