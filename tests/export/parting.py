"""Texts of two programs that compute the same function to so many digits."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mamba_slm.export.onnx.check import TIE
from mamba_slm.model.stack import LanguageModel


def assert_same_text(
    model: LanguageModel, prompt: Sequence[int], found: Sequence[int], expected: Sequence[int]
) -> None:
    """Token by token; behind two that the model finds equally likely, greedy texts may part."""
    assert len(found) == len(expected)
    part = next((place for place, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1]), None)
    if part is None:
        return
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *expected[:part]]]))[0, -1]
    assert logits.max() - logits[found[part]] <= TIE, f"another text from token {part} on"
