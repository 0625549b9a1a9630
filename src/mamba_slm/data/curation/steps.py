"""The stages of the chain for one kind of source, each built once per process from its own settings."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from mamba_slm.data.curation.config import CurateConfig
from mamba_slm.data.curation.contamination.index import BenchmarkIndex
from mamba_slm.data.curation.judged import Judged
from mamba_slm.data.curation.language.gate import LanguageGate
from mamba_slm.data.curation.personal.clean import PersonalData
from mamba_slm.data.curation.phrases.find import Words, words_in
from mamba_slm.data.curation.profanity.judge import Profanity
from mamba_slm.data.curation.signals.assess import QualityConfig, assess
from mamba_slm.data.curation.signals.native import measure_texts
from mamba_slm.data.curation.signals.ratios import quantity
from mamba_slm.data.curation.signals.rules import broken_rules
from mamba_slm.data.curation.signals.score import score
from mamba_slm.data.curation.spam.judge import Spam
from mamba_slm.data.curation.verdict import Kind, Removed

FOUND = {"mask": "{kind} masked", "keep": "{kind} kept", "drop": "{kind} found"}
"""What is counted of personal data, by what is done with it."""


class Step(Protocol):
    """One stage. It judges every document alone."""

    @property
    def name(self) -> str:
        """For the table of times; rules begin with it."""
        ...

    def apply(self, batch: Sequence[Judged]) -> None:
        """Change texts, or say why a document goes. None of the batch has been removed before."""
        ...

    def measured(self, text: str) -> list[str]:
        """What the stage sees in a text, line by line, for `explain`."""
        ...


@dataclass(frozen=True, kw_only=True)
class QualityStep:
    """Length, signals, rules and score; then lines and paragraphs that a text repeats are taken out."""

    config: QualityConfig
    name: str = "signals"

    def apply(self, batch: Sequence[Judged]) -> None:
        """As `Step.apply`."""
        found = assess([one.text for one in batch], self.config)
        shortest = self.config.rules.min_characters or 0
        for one, removed, steps, kept in zip(batch, found.removed, found.steps.tolist(), found.kept, strict=True):
            one.removed, one.score_steps = removed, steps
            if kept is None or kept.text is one.text:
                continue
            one.text, one.words = kept.text, None
            counts = {"repeated lines": kept.lines, "repeated paragraphs": kept.paragraphs}
            one.changes.update({what: count for what, count in counts.items() if count})
            if len(kept.text) < shortest:
                one.removed = Removed(
                    rule="signals.min_characters_without_repeats",
                    value=len(kept.text),
                    threshold=shortest,
                    detail="at least",
                )

    def measured(self, text: str) -> list[str]:
        """Every limit with what was measured, and the score."""
        matrix = measure_texts([text])
        broken = broken_rules(matrix, self.config.rules)[0].tolist()
        lines = []
        for (name, limit), is_broken in zip(self.config.rules.limits.items(), broken, strict=True):
            side, _, what = name.partition("_")
            value, words = quantity(matrix, what)[0].item(), "at least" if side == "min" else "at most"
            lines.append(f"{'✗' if is_broken else '✓'} {what} {value:.6g} ({words} {limit:g})")
        return [*lines, f"score {score(matrix, self.config.parts)[0]:.5f}"]


@dataclass(frozen=True, kw_only=True)
class VerdictStep:
    """A stage that only says what goes."""

    name: str
    removed: Callable[[list[str]], Sequence[Removed | None]]
    value: Callable[[str], str] | None = None
    """What is measured, for `explain`."""

    def apply(self, batch: Sequence[Judged]) -> None:
        """As `Step.apply`."""
        for one, removed in zip(batch, self.removed([one.text for one in batch]), strict=True):
            one.removed = removed

    def measured(self, text: str) -> list[str]:
        """As `Step.measured`."""
        seen = "" if self.value is None else self.value(text)
        return [seen] if seen else []


@dataclass(frozen=True, kw_only=True)
class WordsStep(VerdictStep):
    """A stage that only says what goes, and only looks at words, which the next such stage need not look for again."""

    removed: Callable[[Words], Sequence[Removed | None]]  # pyright: ignore[reportIncompatibleVariableOverride]

    def apply(self, batch: Sequence[Judged]) -> None:
        """As `Step.apply`."""
        unknown = [one for one in batch if one.words is None]
        words = words_in([one.text for one in unknown])
        for number, one in enumerate(unknown):
            one.words = words.of_text(number)
        if len(unknown) < len(batch):
            words = Words.joined([one.words for one in batch if one.words is not None])
        for one, removed in zip(batch, self.removed(words), strict=True):
            one.removed = removed


@dataclass(frozen=True, kw_only=True)
class PersonalStep:
    """Personal data is masked, or is the reason why a document goes."""

    personal: PersonalData
    name: str = "personal"

    def apply(self, batch: Sequence[Judged]) -> None:
        """As `Step.apply`."""
        for one, cleaned in zip(batch, self.personal.clean([one.text for one in batch]), strict=True):
            if cleaned.text is not one.text:
                one.text, one.words = cleaned.text, None
            one.removed = cleaned.removed
            for kind, count in cleaned.found.items():
                one.changes[FOUND[getattr(self.personal.config, kind)].format(kind=kind)] = count

    def measured(self, text: str) -> list[str]:
        """How many of each kind there are."""
        return [f"{kind} {count}" for kind, count in self.personal.clean([text])[0].found.items()]


def steps_of(config: CurateConfig, kind: Kind, benchmarks: BenchmarkIndex | None = None) -> tuple[Step, ...]:
    """All stages, in their order: the cheap ones that remove much come first."""
    quality = replace(QualityConfig.of(kind), rules=getattr(config.rules, kind))
    steps: list[Step] = [QualityStep(config=quality)]
    if config.language is not None and kind in config.language.judged_kinds:
        gate = LanguageGate(config.language, kind)
        steps.append(VerdictStep(name="language", removed=gate.removed, value=functools.partial(confidence, gate)))
    if config.profanity is not None:
        profanity = Profanity(getattr(config.profanity, kind), kind)
        steps.append(WordsStep(name="profanity", removed=profanity.removed, value=profanity.measured))
    if config.spam is not None and kind != "code":  # which has no rule about it
        spam = Spam(getattr(config.spam, kind), kind)
        steps.append(WordsStep(name="spam", removed=spam.removed, value=spam.measured))
    if benchmarks is not None:
        steps.append(WordsStep(name="contamination", removed=benchmarks.removed))
    if config.personal is not None:
        steps.append(PersonalStep(personal=PersonalData(config.personal)))
    return tuple(steps)


def confidence(gate: LanguageGate, text: str) -> str:
    """What the gate thinks of a text."""
    return f"English at {gate.confidence([text])[0]:.4f} (at least {gate.config.min_confidence:g})"
