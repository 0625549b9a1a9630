"""docs/guides/dashboard.md: a home with a run, and an older one."""


def prepare(stage):
    stage.run("runs/quickstart")
    stage.run("archive/runs/older")
