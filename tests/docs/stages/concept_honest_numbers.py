"""docs/concepts/honest-numbers.md: nothing; it measures."""


def prepare(stage):
    """Random weights."""
