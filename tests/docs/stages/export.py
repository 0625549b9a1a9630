"""docs/guides/export.md: a run and a text that it has not seen."""


def prepare(stage):
    stage.run("runs/stories")
    stage.text("held-out.txt")
