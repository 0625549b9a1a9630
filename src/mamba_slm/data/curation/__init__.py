"""Which documents are worth training on: quality, duplicates, and why each one was removed. No torch."""
