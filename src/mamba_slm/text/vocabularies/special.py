"""Special tokens with given ids, in a tokenizer that is being put together."""

from __future__ import annotations

import json
from collections.abc import Mapping

import tokenizers

FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def with_special_tokens(
    backend: tokenizers.Tokenizer, ids: Mapping[str, int], *, begin: str | None
) -> tokenizers.Tokenizer:
    """The tokenizer with these special tokens; other programs that read it begin a text with `begin`, as our data do.

    Args:
        backend: their names must be in its vocabulary: the library numbers others itself.
        ids: by name.
        begin: one of the names; None for a vocabulary without such a token.
    """
    description = json.loads(backend.to_str())
    description["added_tokens"] = [
        {"id": id, "content": content, **FLAGS} for content, id in sorted(ids.items(), key=lambda item: item[1])
    ]
    if begin is not None:
        special = {begin: {"id": begin, "ids": [ids[begin]], "tokens": [begin]}}
        first, second = ({"SpecialToken": {"id": begin, "type_id": type}} for type in (0, 1))
        texts = [{"Sequence": {"id": name, "type_id": type}} for type, name in enumerate("AB")]
        description["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [first, texts[0]],
            "pair": [first, texts[0], second, texts[1]],
            "special_tokens": special,
        }
    return tokenizers.Tokenizer.from_str(json.dumps(description))
