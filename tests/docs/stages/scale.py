"""docs/guides/scale.md: token shards."""


def prepare(stage):
    stage.shards("shards")
