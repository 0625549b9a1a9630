"""The architecture: what a pattern string becomes, its sizes, its weights and its inference state."""
