"""docs/concepts/estimates.md: nothing; it computes."""


def prepare(stage):
    """Sizes are in the program."""
