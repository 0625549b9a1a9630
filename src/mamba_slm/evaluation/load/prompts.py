"""Prompts: made up, of a certain length and with a common beginning, or read from a file."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import DataError
from mamba_slm.evaluation.load.settings import LoadSettings

COMMON = (
    "time year people way day man thing woman life child world school state family student group country problem hand "
    "part place case week company system program question work government number night point home water room mother "
    "area money story fact month lot right study book eye job word business issue side kind head house service friend "
    "father power hour game line end member law car city community name team minute idea body back parent face others "
    "level office door health person art war history party result change morning reason research girl guy moment air "
    "teacher force education"
)
WORDS = tuple(COMMON.split())
"""Common English words: a token each, or two, in most vocabularies."""

Body = dict[str, Any]
"""Fields of a request that depend on its prompt."""
MakeBody = Callable[[str, int], Body]
"""The name of a level and the number of a request in it -> its fields; the same for the same."""


class SyntheticPrompts:
    """Words or token ids drawn at random, the same for the same seed, level and number."""

    def __init__(self, settings: LoadSettings):
        self.settings = settings
        self.tokens_per_word = 1.0
        """Of words in this server's vocabulary; measured with the first answer."""

    def __call__(self, level: str, number: int) -> Body:
        settings = self.settings
        own = random.Random(f"{settings.seed}/{level}/{number}")
        length = own.randint(*settings.prompt_tokens)
        shared = round(length * settings.shared_share)
        common = random.Random(f"{settings.seed}/shared")
        output = own.randint(*settings.output_tokens)
        if settings.vocab_size is not None:
            draw = ids_below(settings.vocab_size)
            return prompt_body(settings, [*draw(common, shared), *draw(own, length - shared)], output)
        counts = (round(count / self.tokens_per_word) for count in (shared, length - shared))
        words = [
            word for source, count in zip((common, own), counts, strict=True) for word in source.choices(WORDS, k=count)
        ]
        return prompt_body(settings, " ".join(words) or WORDS[0], output)

    def calibrate(self, words: int, prompt_tokens: int) -> None:
        """Take over what a server counted for a prompt of so many words."""
        if words > 0 and prompt_tokens > 0:
            self.tokens_per_word = prompt_tokens / words


def ids_below(vocab_size: int) -> Callable[[random.Random, int], list[int]]:
    """Token ids that are no special ones in usual vocabularies, whose first few are."""
    first = min(4, vocab_size - 1)
    return lambda source, count: [source.randrange(first, vocab_size) for _ in range(count)]


def prompt_body(settings: LoadSettings, prompt: str | list[int], output_tokens: int) -> Body:
    """As the endpoint wants it."""
    limits: Body = {"max_tokens": output_tokens} | ({} if settings.may_end else {"ignore_eos": True})
    if settings.endpoint == "chat":
        return {"messages": [{"role": "user", "content": prompt}], **limits}
    return {"prompt": prompt, **limits}


def dataset_bodies(path: Path, settings: LoadSettings) -> MakeBody:
    """Prompts of a file, each in its turn, from the beginning again behind the last one.

    Raises:
        DataError: a line that is no JSON object with `prompt`, or `messages` for a chat.
    """
    wanted = "messages" if settings.endpoint == "chat" else "prompt"
    rows: list[Body] = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}, line {number}: no JSON: {error}") from error
            if not isinstance(row, dict) or wanted not in row:
                raise DataError(
                    f"{path}, line {number} has no {wanted!r}",
                    hint=f"--endpoint {settings.endpoint} takes lines such as "
                    + (
                        '{"messages": [{"role": "user", "content": "Hello"}]}'
                        if wanted == "messages"
                        else '{"prompt": "Hello"}'
                    ),
                )
            rows.append({"max_tokens": settings.output_tokens[1], **row})
    if not rows:
        raise DataError(f"{path} has no prompts")
    numbers: dict[str, int] = {}

    def body(level: str, number: int) -> Body:
        offset = numbers.setdefault(level, len(numbers))  # another level does not begin with the same prompts
        return rows[(number + offset * max(1, len(rows) // 7)) % len(rows)]

    return body
