"""docs/guides/troubleshoot.md: runs, shards, and files with everything wrong that the page speaks of."""

import json

from docs.made import texts


def prepare(stage):
    stage.run("runs/good")
    stage.run("runs/low")
    stage.run("runs/spiked")
    stage.shards("tokens")
    stage.texts("texts")
    stage.file("bad.jsonl", "{not json\n")
    stage.file("latin.txt", b"caf\xe9\n" * 400)
    stage.file("key.jsonl", "".join(json.dumps({"content": text}) + "\n" for text in texts()))
    stage.path("empty").mkdir()
