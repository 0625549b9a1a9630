"""README.md: text of one's own, questions with answers, and prompts to rate."""


def prepare(stage):
    stage.texts("FOLDER")
    stage.examples("questions-and-answers.jsonl")
    stage.prompts("questions.txt")
    stage.types("prefs rate", "1\n4\n2\n5\n" * 6)
