"""docs/guides/continue.md: a run, the texts of its kind, those of another subject."""


def prepare(stage):
    stage.run("runs/book")
    stage.texts("books")
    stage.texts("medicine")
    stage.text("held-out.txt")
