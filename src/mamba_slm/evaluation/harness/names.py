"""Names of benchmarks, without importing what runs them."""

from __future__ import annotations

THE_TEN = (
    *("mmlu", "hellaswag", "arc_easy", "arc_challenge", "truthfulqa"),
    *("piqa", "winogrande", "boolq", "gsm8k", "humaneval"),
)
"""What `all` means."""

EXTRAS = ("lambada_openai", "blimp", "mbpp")
"""What also shows progress of a small model, or is run in the sandbox."""

CODE = ("humaneval", "mbpp")
"""Benchmarks whose answers are programs; lm-evaluation-harness cannot run them without its hub and a sandbox."""

FOLDERS = (
    *("mmlu/default", "hellaswag", "arc", "truthfulqa", "piqa", "winogrande", "super_glue/boolq", "gsm8k"),
    *("lambada", "blimp", "openbookqa", "sciq", "siqa", "wikitext"),
)
"""Below `lm_eval/tasks`: looked through at once. The index of all 14,000 tasks takes ten seconds."""


def split_names(text: str) -> list[str]:
    """Names between commas, `all` expanded, each once.

    >>> split_names("arc_easy, piqa,arc_easy")
    ['arc_easy', 'piqa']
    >>> split_names("all")[:2]
    ['mmlu', 'hellaswag']
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return list(dict.fromkeys(name for part in parts for name in (THE_TEN if part == "all" else (part,))))
