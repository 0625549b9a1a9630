"""docs/guides/states.md: a run, another that guesses for it, a text that is read again and again."""


def prepare(stage):
    stage.run("runs/quickstart")
    stage.run("runs/large")
    stage.file("manual.txt", "The lamp is on the left. Press the green button to start the engine. " * 5)
