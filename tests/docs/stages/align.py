"""docs/guides/align.md: two fine-tuned runs, pairs, prompts as text, sums with answers."""


def prepare(stage):
    stage.run("runs/faq", "adapter run")
    stage.run("runs/faq-2", "other adapter run")
    stage.pairs("pairs.jsonl")
    stage.prompts("questions.txt")
    stage.questions("questions.jsonl")
    stage.types("prefs rate", "1\n4\n2\n5\n" * 6)
