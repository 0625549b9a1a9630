"""HumanEval and MBPP: questions, programs made of answers, and which of them pass."""
