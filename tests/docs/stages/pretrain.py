"""docs/guides/pretrain.md: two folders of texts, and one file that was held out."""


def prepare(stage):
    stage.texts("web")
    stage.texts("code")
    stage.text("held-out.txt")
