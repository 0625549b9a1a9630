"""docs/guides/recipes.md: its plans need nothing; the recipes themselves run in tests/recipes."""


def prepare(stage):
    """Leave the folder empty."""
