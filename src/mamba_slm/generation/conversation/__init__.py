"""Conversations: how turns become tokens, what may be taken back, and the chat of a terminal."""
