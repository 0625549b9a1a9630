"""Make the table and the curves of the English gate anew, from texts with a hash outside the held-out fifth.

python benchmarks/language_table.py ../shared/data             prints what they reach on the calibration fifth
python benchmarks/language_table.py ../shared/data --write     and writes weights.bin and calibration.json
python benchmarks/language_table.py ../shared/data --check     exits 1 unless the files would be the same to the byte
python benchmarks/language_table.py ../shared/data --held-out  prints what the files reach on the held-out fifth

Sources, licences and what is kept of them: docs/reference/language-table.md. Only sums of letters' n-grams go in.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from _language_calibration import evidence_of, fit_curve, reliability
from _language_texts import CALIBRATION, HELD_OUT, code_words, english, part_of, sentences
from _language_training import Example, FitConfig, balanced, example, fit, snippets
from numpy.typing import NDArray

from mamba_slm.core.files import write_bytes_atomic
from mamba_slm.data.curation.language.calibration import FILE, Calibration, calibrations
from mamba_slm.data.curation.language.definition import judged
from mamba_slm.data.curation.language.native import WEIGHTS
from mamba_slm.data.curation.language.native import weights as packaged_weights

SEED = 20261121
KIND_SOURCES: dict[str, tuple[str, ...]] = {
    "web": ("c4", "wikipedia", "langid"),
    "books": ("books", "stories"),
    "docs": ("stackexchange", "arxiv", "wikipedia"),
    "chat": ("chat", "stories", "stackexchange"),
}
"""The English sources that a kind's curve is fitted on."""
ENGLISH_SHARE: dict[str, float] = {"web": 0.5, "books": 0.5, "docs": 0.75, "chat": 0.75}
"""What is expected before a text is seen: crawls and libraries are half English, manuals and forums mostly."""
TECHNICAL = frozenset({"stackexchange", "arxiv", "wikipedia", "c4"})
COMMON_WORDS = 300
"""The commonest words of English, which nobody borrows."""
MAX_TRAINED_ENGLISH_SHARE = 0.4
MAX_ENGLISH_SHARE: dict[str, float] = {"web": 0.1, "books": 0.0, "docs": 0.1, "chat": 0.1}
"""Pages in other languages quote English names and terms: up to this share of their words is replaced by such."""


def training_examples(shared: Path) -> list[Example]:
    """Sentences of langid whole, half of those in other languages once more with English terms; English in snippets."""
    generator = np.random.default_rng(SEED)
    found = []
    for source, text in english(shared):
        if part_of(text) not in (HELD_OUT, CALIBRATION):
            found += snippets(source, True, text, generator)
    terms = terms_of(found)
    found += snippets("code", True, " ".join(generator.choice(code_words(), 20_000)), generator)
    for language, sentence in sentences(shared):
        if part_of(sentence) not in (HELD_OUT, CALIBRATION):
            is_english = language == "en"
            one = example("langid" if is_english else language, is_english, list(judged(sentence)))
            found.append(one)
            if not is_english and generator.random() < 0.5:
                found.append(quoting(one, terms, MAX_TRAINED_ENGLISH_SHARE, generator))
    return found


def terms_of(examples: list[Example]) -> list[str]:
    """What pages in other languages borrow: words of English texts but the commonest, and those of programs."""
    counts = Counter(word for one in examples for word in one.words)
    common = {word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:COMMON_WORDS]}
    borrowed = [word for one in examples if one.group in TECHNICAL for word in one.words if word not in common]
    return borrowed + code_words() * (len(borrowed) // (4 * len(code_words())))


def calibration_examples(shared: Path, kind: str, part: int = CALIBRATION) -> list[Example]:
    """English sources of a kind against all other languages, both in snippets of 3 to 60 words, of one part."""
    generator = np.random.default_rng(SEED + 1)
    found = []
    others: dict[str, list[str | int]] = {}
    for language, sentence in sentences(shared):
        if part_of(sentence) == part:
            if language != "en":
                others.setdefault(language, []).extend(judged(sentence))
            elif "langid" in KIND_SOURCES[kind]:
                found += snippets("langid", True, sentence, generator)
    for source, text in english(shared):
        if source in KIND_SOURCES[kind] and part_of(text) == part:
            found += snippets(source, True, text, generator)
    terms = terms_of(found)
    for language, units in others.items():
        found += [quoting(one, terms, MAX_ENGLISH_SHARE[kind], generator) for one in cut(language, units, generator)]
    return found


def cut(language: str, units: list[str | int], generator: np.random.Generator) -> Iterator[Example]:
    """As `snippets`, of words of another language."""
    while units:
        size = int(np.exp(generator.uniform(np.log(3), np.log(60))))
        yield example(language, False, units[:size])
        units = units[size:]


def quoting(one: Example, terms: list[str], max_share: float, generator: np.random.Generator) -> Example:
    """A text in another language with up to a share of its words replaced by English ones."""
    share = generator.uniform(0, max_share)
    words = [terms[generator.integers(len(terms))] if generator.random() < share else word for word in one.words]
    quoted = int((generator.random(one.foreign_words) < share).sum())
    words += [terms[generator.integers(len(terms))] for _ in range(quoted)]
    return example(one.group, False, [*words, one.foreign_words - quoted])


def report(examples: list[Example], weights: NDArray[np.int8], curve: Calibration) -> str:
    """What passes, and how often texts of each range of confidence are English."""
    confidence = curve.confidence(evidence_of(examples, weights), without_words=0.5)
    is_english, importance = np.array([one.is_english for one in examples]), balanced(examples, curve.english_share)
    kept, leaked = (
        (importance * (confidence >= 0.9))[is_english == side].sum() / importance[is_english == side].sum()
        for side in (True, False)
    )
    return (
        f"at 0.90 kept {kept:.4f} of English, let {leaked:.4f} of other snippets of 3 to 60 words through\n"
        f"{reliability(confidence, is_english, importance)}"
    )


def make(shared: Path) -> tuple[bytes, bytes]:
    """Both files; says what they reach on the calibration fifth."""
    weights = fit(training_examples(shared), FitConfig(), lambda text: print(text, file=sys.stderr))
    curves = {}
    for kind in KIND_SOURCES:
        examples = calibration_examples(shared, kind)
        curve = fit_curve(examples, weights, ENGLISH_SHARE[kind])
        curves[kind] = {"english_share": ENGLISH_SHARE[kind], "words": curve.words}
        curves[kind] |= {"slopes": curve.slopes, "intercepts": curve.intercepts}
        print(f"{kind}: {report(examples, weights, curve)}")
    return weights.tobytes(), (json.dumps({"kinds": curves}, indent=1) + "\n").encode()


def main() -> None:
    """Make, then write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path, help="the folder with curation/langid, corpora and instructions")
    parser.add_argument("--write", action="store_true", help="replace the files of the package")
    parser.add_argument("--check", action="store_true", help="exit 1 unless they are equal to what was made")
    parser.add_argument("--held-out", action="store_true", help="report on the held-out fifth instead")
    arguments = parser.parse_args()
    if arguments.held_out:
        for kind, curve in calibrations().items():
            examples = calibration_examples(arguments.shared, kind, HELD_OUT)
            print(f"{kind}: {report(examples, packaged_weights(), curve)}")
        return
    for path, made in zip((WEIGHTS, FILE), make(arguments.shared), strict=True):
        if arguments.write:
            write_bytes_atomic(path, made)
        if arguments.check and path.read_bytes() != made:
            raise SystemExit(f"error: {path.name} is not what these texts make")


if __name__ == "__main__":
    main()
