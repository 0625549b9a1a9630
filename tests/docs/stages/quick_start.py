"""docs/quick-start.md: the run that the quick start leaves, and text of one's own."""


def prepare(stage):
    stage.run("runs/quickstart")
    stage.texts("FOLDER")
