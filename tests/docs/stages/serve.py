"""docs/guides/serve.md: a run, one that was fine-tuned, and adapters of the first one by name."""


def prepare(stage):
    stage.run("runs/quickstart")
    stage.run("runs/answers", "adapter run")
    for name in ("stories", "poems"):
        stage.copy(stage.made.folder("adapter run") / "adapter", f"adapters/{name}")
