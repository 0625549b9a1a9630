"""docs/guides/long-context.md: a run, a longer one, books."""


def prepare(stage):
    stage.run("runs/quickstart")
    stage.run("runs/long")
    stage.texts("books")
    stage.text("book.txt")
