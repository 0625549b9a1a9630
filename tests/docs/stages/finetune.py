"""docs/guides/finetune.md: a pretrained run, examples, and an adapter of another fine-tuning."""


def prepare(stage):
    stage.run("runs/book")
    stage.examples("faq.jsonl")
    stage.run("runs/poems", "other adapter run")
