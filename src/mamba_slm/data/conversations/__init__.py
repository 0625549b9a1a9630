"""Conversations, preferences and prompts from files and data sets in all the forms that people publish them in."""
