"""Text in, text out: prompts become documents that the model continues, tokens become text as they arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mamba_slm.generation.events import FinishReason, Stream, Timing
from mamba_slm.generation.generate import stream_tokens
from mamba_slm.generation.request import Strategy
from mamba_slm.generation.runtime import Runtime
from mamba_slm.generation.sampling import Sampler
from mamba_slm.generation.stream import TextStream
from mamba_slm.model.stack import LanguageModel
from mamba_slm.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class TextEvent:
    """What one new token added to the text of one row."""

    row: int
    token: int
    text: str
    """Text that became certain; may be empty."""
    finish_reason: FinishReason | None
    """Set with the last event of the row."""


@dataclass(frozen=True)
class TextCompletion:
    """The text of one row, without its prompt and without the stop string or stop token that ended it."""

    text: str
    num_tokens: int
    """New tokens the model made, those of a stop string or stop token included."""
    finish_reason: FinishReason
    score: float | None = None
    """What a strategy ranked it by, larger is better; None where nothing is ranked."""


def prompt_tokens(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """A prompt as the beginning of a document: bos and the tokens of the text. Special tokens in it are plain text."""
    return [tokenizer.bos_id, *tokenizer.encode(prompt)]


def stream_text(tokens: Stream, tokenizer: Tokenizer, *, stops: Sequence[str] = ()) -> Iterator[TextEvent]:
    """Turn the tokens of every row into text, and end a row at the first stop string.

    Raises:
        ConfigError: a stop string is empty.
    """
    texts = [TextStream.create(tokenizer, stops) for _ in range(tokens.num_rows)]
    return text_events(tokens, texts)


def text_events(tokens: Stream, texts: Sequence[TextStream]) -> Iterator[TextEvent]:
    """One event per token; `texts` holds the stream of each row."""
    for event in tokens:
        text = texts[event.row]
        is_end_token = event.finish_reason in ("eos", "stop_token")
        new = "" if is_end_token else text.push(event.token)
        reason = event.finish_reason
        if reason is not None and not text.stopped:
            new += text.finish()
        if text.stopped:
            tokens.stop_row(event.row)
            reason = "stop_string"
        yield TextEvent(event.row, event.token, new, reason)


def generate_text(
    model: LanguageModel | Runtime[Any],
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    sampler: Sampler | None = None,
    stops: Sequence[str] = (),
    seed: int = 0,
    samples_per_prompt: int = 1,
    strategy: Strategy | None = None,
    first_row: int = 0,
    on_text: Callable[[TextEvent], None] = lambda event: None,
) -> tuple[list[TextCompletion], Timing]:
    """Continue each prompt; rows in the order of the prompts. Arguments and errors as in `stream_tokens`.

    Args:
        stops: strings that end a text; the end token always does.
        on_text: told every event as it comes.
    """
    stream = stream_tokens(
        model,
        [prompt_tokens(tokenizer, prompt) for prompt in prompts],
        max_new_tokens=max_new_tokens,
        sampler=sampler,
        eos_id=tokenizer.eos_id,
        seed=seed,
        samples_per_prompt=samples_per_prompt,
        strategy=strategy,
        first_row=first_row,
    )
    events = stream_text(stream, tokenizer, stops=stops)
    return collect_texts(events, num_rows=stream.num_rows, score=stream.score, on_text=on_text), stream.timing


def collect_texts(
    events: Iterator[TextEvent],
    *,
    num_rows: int,
    score: Callable[[int], float | None] = lambda row: None,
    on_text: Callable[[TextEvent], None] = lambda event: None,
) -> list[TextCompletion]:
    """Run a stream of events to its end; one completion per row.

    Args:
        events: of `stream_text`.
        num_rows: rows of the stream.
        score: `Stream.score` of the stream.
        on_text: told every event as it comes.
    """
    texts = [""] * num_rows
    counts = [0] * num_rows
    reasons: list[FinishReason] = ["length"] * num_rows
    for event in events:
        on_text(event)
        texts[event.row] += event.text
        counts[event.row] += 1
        reasons[event.row] = event.finish_reason or reasons[event.row]
    return list(map(TextCompletion, texts, counts, reasons, map(score, range(num_rows))))
