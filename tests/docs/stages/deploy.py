"""docs/guides/deploy.md: the run that is deployed."""


def prepare(stage):
    stage.run("runs/quickstart")
