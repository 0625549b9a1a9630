"""docs/concepts/pattern-language.md: token shards."""


def prepare(stage):
    stage.shards("shards")
