"""One example as the model sees it, with what it learns to say made visible: `--mask-check`."""

from __future__ import annotations

from itertools import groupby

from mamba_slm.finetuning.examples import EncodedExample
from mamba_slm.text.tokenizer import Tokenizer

COLOUR = "\033[30;42m", "\033[0m"
BRACKETS = "⟦", "⟧"


def mask_shown(example: EncodedExample, tokenizer: Tokenizer, *, colour: bool) -> str:
    """The text of an example with its learned tokens on green, or in ⟦ ⟧ without colour, under a line with numbers."""
    begin, end = COLOUR if colour else BRACKETS
    legend = f"{begin}learned{end}" if colour else "learned in ⟦ ⟧"
    parts: list[str] = []
    for trained, group in groupby(zip(example.tokens, example.trained, strict=True), key=lambda pair: pair[1]):
        text = tokenizer.decode([token for token, _ in group], skip_special=False)
        # a terminal would colour the rest of the line, too
        parts.append("\n".join(f"{begin}{line}{end}" for line in text.split("\n")) if trained and colour else text)
        if trained and not colour:
            parts[-1] = f"{begin}{text}{end}"
    head = f"{example.origin}: {example.num_trained:,} of {len(example.tokens):,} tokens are learned ({legend})"
    return f"{head}\n{''.join(parts)}"
