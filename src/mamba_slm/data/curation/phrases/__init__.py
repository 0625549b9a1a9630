"""Phrases of a few words, found in texts in one pass: what contamination, profanity and spam look for."""
