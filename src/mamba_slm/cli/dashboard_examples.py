"""One example as it is learned, for the dashboard: its pieces with the mask that the loss gets, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mamba_slm.finetuning.examples import EncodedExample
    from mamba_slm.text.tokenizer import Tokenizer

LONGEST_PIECE = 8
"""Tokens: a character of several tokens is shown whole, and what is no text does not go on for ever."""
HALF = "\ufffd"


def example_of_tuning(words: Sequence[str], number: int) -> dict[str, Any]:
    """Example `number`, from 0, of the first ones of a command's data.

    Args:
        words: after `mamba-slm`, of `finetune` or `align`.

    Returns: `count` of those that can be looked at, `number`, `origin`, and `parts`, each a `title`, `pieces`
        `[text, tokens, is_learned]` of encoded text, or `text` where the command has yet to encode it.

    Raises:
        MambaSlmError: the command would refuse settings, model or data.
    """
    from mamba_slm.cli.dashboard_tuning import settings_of
    from mamba_slm.cli.dashboard_tuning_data import base_of, looked_at, read_alignment, versions
    from mamba_slm.core.errors import DataError
    from mamba_slm.dashboard.reading.base_model import base_model
    from mamba_slm.data.conversations.hub import is_hub_id
    from mamba_slm.finetuning.config import FinetuneConfig

    config, _ = settings_of(words)
    if not config.data or any(is_hub_id(source) for source in config.data):
        raise DataError("there is nothing to look at: data on this computer can be")
    if not isinstance(config, FinetuneConfig):
        _, items, _ = read_alignment(base_of(config), versions(config.data))
        number = min(max(0, number), len(items) - 1)
        return {
            "count": len(items), "number": number, "origin": items[number].origin, "parts": parts_of(items[number])
        }  # fmt: skip
    prepared = looked_at(config, base_model(Path(config.model))).prepared
    examples = prepared.train.examples
    number = min(max(0, number), len(examples) - 1)
    example = examples[number]
    return {
        "count": len(examples),
        "number": number,
        "origin": example.origin,
        "tokens": len(example.tokens),
        "learned": example.num_trained,
        "parts": [{"title": "", "pieces": pieces_of(example, prepared.template.tokenizer)}],
    }


def pieces_of(example: EncodedExample, tokenizer: Tokenizer) -> list[list[Any]]:
    """`[text, tokens, is_learned]` of one token each, or of as many as make whole characters."""
    pieces: list[list[Any]] = []
    held: list[int] = []
    mask = example.trained
    for place, token in enumerate(example.tokens):
        held.append(token)
        text = tokenizer.decode(held, skip_special=False)
        is_last = place + 1 == len(mask) or mask[place + 1] != mask[place]
        if is_last or len(held) == LONGEST_PIECE or not text.endswith(HALF):
            pieces.append([text, len(held), mask[place]])
            held = []
    return pieces


def parts_of(item: Any) -> list[dict[str, Any]]:
    """Prompt and answers of a preference, a judged answer, or a prompt, as texts."""
    from mamba_slm.data.conversations.example import Labelled, Preference, Prompt

    if isinstance(item, Preference):
        answers = [("chosen", item.chosen, True), ("rejected", item.rejected, False)]
    elif isinstance(item, Labelled):
        answers = [("good" if item.is_good else "bad", item.completion, item.is_good)]
    else:
        answers = [("right answer, for rewards that compare", [{"content": item.answer}], True)] if item.answer else []
    prompt = item.messages if isinstance(item, Prompt) else item.prompt
    parts = [{"title": str(message["role"]), "text": str(message["content"]), "kind": "prompt"} for message in prompt]
    return parts + [
        {"title": title, "text": "\n\n".join(str(each["content"]) for each in said), "kind": "good" if good else "bad"}
        for title, said, good in answers
    ]
