"""Spam: advertisements and lists of links, by density."""
