"""docs/guides/decoding.md: a run and a file of prompts."""


def prepare(stage):
    stage.run("runs/quickstart")
    stage.prompts("prompts.jsonl")
