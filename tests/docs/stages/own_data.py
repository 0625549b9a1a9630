"""docs/guides/own-data.md: a folder of texts."""


def prepare(stage):
    stage.texts("notes")
