"""docs/guides/monitor.md: two runs and texts."""


def prepare(stage):
    stage.run("runs/book")
    stage.run("runs/other")
    stage.texts("books")
