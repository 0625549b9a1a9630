"""docs/guides/chat.md: two runs, and one that was fine-tuned, for the server."""


def prepare(stage):
    stage.run("runs/quickstart")
    stage.run("runs/other")
    stage.run("runs/answers", "adapter run")
