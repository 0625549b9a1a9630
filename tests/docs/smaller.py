"""The one table of what makes a command of a page small enough to run in a test. Nothing else of it is changed.

Order: sizes become `nano`; flags of `REPLACED` that the page gives get another value; flags of `ADDED` that it does not
give are added. Commands with `--resume` or `--help` get nothing added. A page's real numbers run with `--dry-run`
where a block says that it cannot run here.
"""

from __future__ import annotations

SIZES = ("tiny", "60M", "demo", "125M", "350M", "1.3B", "2.7B", "6.7B", "13B", "production")
SIZED = ("train", "doctor --train", "bench")
"""Commands whose size becomes `nano`; `models estimate` and `describe` cost nothing and keep theirs."""

STEPS = {"--max-steps": "2", "--max-minutes": None, "--max-tokens": None, "--epochs": None}
SHORT = {"--context-tokens": "64", "--batch-tokens": "128"}

REPLACED: dict[str, dict[str, str | None]] = {
    "train": {**STEPS, **SHORT, "--nproc": "2", "--vocab-size": "320", "--benchmark-every-steps": "1"},
    "finetune": {**STEPS, "--context-tokens": "128", "--batch-tokens": "256", "--benchmark-every-steps": "1"},
    "align": {**STEPS, "--dry-reward": "4", "--group": "4"},
    "convert": {**STEPS, **SHORT, "--micro-batch-rows": "1", "--precision": "fp32"},
    "extend": {"--to": "1Ki", "--train-tokens": "1k"},
    "data train-tokenizer": {"--vocab-size 32000": "320"},
    "quickstart": {"--minutes": "0.05"},
    "doctor": {"--nproc": "2", "--batch-tokens": "1024"},
    "generate": {"--max-new-tokens": "8", "--draft-tokens": "2"},
    "prefs rate": {"--limit": "8"},
    "quantize": {"--max-drop": "50%"},  # a model of two steps loses more than one that was trained
    "probe": {"--lengths": "128,256"},
    "eval": {
        "--benchmarks all": "piqa,arc_easy",
        "--limit": "4",
        "--samples": "2",
        "--window": "64",
        "--stride": "32",
        "--num-runs": "2",
        "--lengths": "16",
        "--batches": "1",
    },
    "bench serve": {"--requests": "4", "--rate": "8", "--concurrency": "1,2", "--prompt-tokens": "8-16"},
}
"""Command -> flag, or flag and value -> its value here; None leaves the flag and its value out."""

ADDED: dict[str, dict[str, str]] = {
    "train": {"--max-steps": "2", **SHORT, "--vocab-size": "320", "--device": "cpu", "--validation-tokens": "512"},
    "finetune": {"--max-steps": "2", "--context-tokens": "128", "--batch-tokens": "256", "--sample-every-steps": "0"},
    "align": {"--max-steps": "2", "--sample-every-steps": "0", "--max-new-tokens": "8", "--limit": "12"},
    "convert": {"--max-steps": "2", **SHORT, "--device": "cpu", "--validation-tokens": "512"},
    "extend": {"--train-tokens": "1k"},
    "quickstart": {"--minutes": "0.05"},
    "generate": {"--max-new-tokens": "8"},
    "chat": {"--max-new-tokens": "8"},
    "prefs rate": {"--limit": "8", "--max-new-tokens": "8"},
    "probe": {"--lengths": "128,256"},
    "eval": {"--limit": "4"},
    "quantize": {"--text-tokens": "512", "--sensitivity": "none", "--calibration-tokens": "512", "--no-speed": ""},
    "eval compare": {},
    "serve": {"--port": "0"},
    "dashboard": {"--port": "0", "--no-open": ""},
    "bench serve": {"--requests": "4", "--concurrency": "1,2", "--prompt-tokens": "8-16"},
}
"""Command -> flag -> value that is added where the page does not give the flag; '' for a flag without a value."""


def make_smaller(words: list[str]) -> list[str]:
    """The words after `mamba-slm` as they run here."""
    if {"--help", "--version", "--dry-run"} & set(words):
        return words
    if words and any(f"{' '.join(words[:2])} ".startswith(f"{command} ") for command in SIZED):
        words = ["nano" if word in SIZES else word for word in words]
    small = _replaced(words, REPLACED.get(_best(words, REPLACED), {}))
    added = {} if "--resume" in words else ADDED.get(_best(words, ADDED), {})
    if "--tokenizer" in words or "--initial" in words:
        added = {flag: value for flag, value in added.items() if flag != "--vocab-size"}
    given = {word.partition("=")[0] for word in small}
    for flag, value in added.items():
        if flag not in given:
            small += [flag, value] if value else [flag]
    return small


def _best(words: list[str], table: dict[str, dict[str, str]] | dict[str, dict[str, str | None]]) -> str:
    """The longest command of the table that these words begin with."""
    fits = [command for command in table if f"{' '.join(words)} ".startswith(f"{command} ")]
    return max(fits, key=len, default="")


def _replaced(words: list[str], values: dict[str, str | None]) -> list[str]:
    found: list[str] = []
    place = 0
    while place < len(words):
        flag = words[place]
        key = f"{flag} {words[place + 1]}" if place + 1 < len(words) else flag
        key = key if key in values else flag
        if key not in values:
            found.append(flag)
            place += 1
            continue
        if (value := values[key]) is not None:
            found += [flag, value]
        place += 2
    return found
