"""Text to token shards on many workers: the same bytes for any number of them, and after any kill."""
