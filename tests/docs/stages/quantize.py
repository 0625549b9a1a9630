"""docs/guides/quantize.md: a run and texts."""


def prepare(stage):
    stage.run("runs/stories")
    stage.text("book.txt")
    stage.text("stories.txt")
