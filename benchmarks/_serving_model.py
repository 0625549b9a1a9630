"""The model that servers are compared with: a preset with random weights, as a folder of ours and as a GGUF file.

Its tokenizer is trained on made-up words, so that every token has a text: a server makes text of tokens, too.
"""

from __future__ import annotations

import random
from pathlib import Path

from mamba_slm.evaluation.bench.contenders import named_model
from mamba_slm.export.gguf.write import plan_file, write_gguf
from mamba_slm.export.source import Source
from mamba_slm.model.checkpoint import save_model
from mamba_slm.text.tokenizer import Tokenizer
from mamba_slm.text.train_tokenizer import train_tokenizer

CONSONANTS, VOWELS = "bcdfghjklmnprstvwz", "aeiou"
WORDS_PER_TOKEN = 3


def made_up_words(count: int, *, seed: int) -> list[str]:
    """Different words of two to five syllables."""
    source, words = random.Random(seed), set[str]()
    while len(words) < count:
        syllables = source.randint(2, 5)
        words.add("".join(source.choice(CONSONANTS) + source.choice(VOWELS) for _ in range(syllables)))
    return sorted(words)


def made_up_tokenizer(vocab_size: int, *, seed: int) -> Tokenizer:
    """Of exactly that many tokens, each with a text."""
    words = made_up_words(WORDS_PER_TOKEN * vocab_size, seed=seed)
    source = random.Random(seed)
    texts = (" ".join(source.choices(words, k=1000)) for _ in range(2 * len(words) // 1000))
    return train_tokenizer(texts, vocab_size=vocab_size)


def write_models(preset: str, folder: Path, *, seed: int, context_tokens: int) -> tuple[Path, Path]:
    """The model folder, and the file of the same weights in Q8_0; both are kept where they are there already."""
    ours, theirs = folder / f"{preset}-{seed}-{context_tokens}", folder / f"{preset}-{seed}-{context_tokens}-q8_0.gguf"
    if not (ours.is_dir() and theirs.is_file()):
        model = named_model(preset, seed, context_tokens)
        tokenizer = made_up_tokenizer(model.config.vocab_size, seed=seed)
        ours.mkdir(parents=True, exist_ok=True)
        save_model(model, ours)
        tokenizer.save(ours)
        write_gguf(plan_file(Source(ours, model, tokenizer), file_type="Q8_0", name=preset), theirs)
    return ours, theirs
