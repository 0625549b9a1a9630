"""Invented English that passes every rule, and documents whose fate is known."""

from __future__ import annotations

import json
import random
from pathlib import Path

from mamba_slm.data.curation.signals.assess import QualityConfig, assess

NOUNS = [
    *("garden", "river", "teacher", "window", "morning", "village", "mountain", "letter", "doctor", "question"),
    *("bridge", "kitchen", "evening", "captain", "market", "winter", "machine", "picture", "harbour", "forest"),
    *("traveller", "library", "soldier", "engine", "island", "museum", "summer", "painter", "station", "valley"),
    *("farmer", "problem", "history", "answer", "carpenter", "lantern", "orchard", "merchant", "journey", "cottage"),
]
VERBS = [
    "found",
    "watched",
    "carried",
    "followed",
    "remembered",
    "painted",
    "crossed",
    "described",
    "opened",
    "visited",
]
ADJECTIVES = [
    *("old", "quiet", "narrow", "bright", "heavy", "distant", "green"),
    *("empty", "curious", "broken", "gentle", "northern", "hidden", "patient"),
]
LINKS = ["Before the storm", "In that year", "Without a word", "Later that day", "Near the shore", "For her part"]


def sentence(source: random.Random) -> str:
    """One, with the words that hold English together."""
    noun = lambda: f"{source.choice(ADJECTIVES)} {source.choice(NOUNS)}"  # noqa: E731
    forms = (
        lambda: f"the {noun()} of the {noun()} {source.choice(VERBS)} a {noun()} that had been with the {noun()}.",
        lambda: f"{source.choice(LINKS)}, the {noun()} {source.choice(VERBS)} the {noun()}, and they have to wait.",
        lambda: f"a {noun()} and the {noun()} {source.choice(VERBS)} what the {noun()} would be to the {noun()}.",
        lambda: f"that {noun()} {source.choice(VERBS)} the {noun()} with a {noun()} from the {noun()} by the sea.",
    )
    text = source.choice(forms)()
    return text[0].upper() + text[1:]


def prose(seed: int, *, sentences: int = 12) -> str:
    """Some paragraphs."""
    source = random.Random(seed)
    lines = [sentence(source) for _ in range(sentences)]
    return "\n\n".join(" ".join(lines[start : start + 4]) for start in range(0, sentences, 4))


def write_jsonl(path: Path, texts: list[str]) -> Path:
    """One record each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text, "number": i}) + "\n" for i, text in enumerate(texts)))
    return path


def good_prose(count: int, *, kind: str = "web") -> list[str]:
    """Texts of which each passes all rules of a kind."""
    texts = [prose(seed) for seed in range(2 * count)]
    removed = assess(texts, QualityConfig.of(kind)).removed  # type: ignore[arg-type]
    good = [text for text, reason in zip(texts, removed, strict=True) if reason is None]
    assert len(good) >= count
    return good[:count]
