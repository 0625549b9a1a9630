"""`mamba-slm generate`: continue prompts."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mamba_slm.cli import console
from mamba_slm.cli.decoding_flags import (
    add_sampling_flags,
    constraint_of,
    sampler_of,
    seed_of,
    strategy_of,
)
from mamba_slm.cli.prompts import Prompt, read_prompts
from mamba_slm.cli.reuse_flags import prompt_cache_for, what_was_saved
from mamba_slm.cli.runtime_flags import runtime_settings
from mamba_slm.core.units import parse_count, three_digits

if TYPE_CHECKING:
    from mamba_slm.generation.text import TextCompletion, TextEvent

EPILOG = """\
MODEL is a run directory, one of its checkpoints, a model folder, or a folder of `mamba-slm export onnx`, which ONNX
Runtime runs. The continuation goes to stdout, without the prompt unless --echo is given; everything else to stderr.
With --jsonl or --out the result is one JSON object per line: prompt, text, num_tokens, finish_reason, and the fields of
the prompt's own line.

examples:
  mamba-slm generate runs/quickstart "def main():"
  cat notes.txt | mamba-slm generate runs/quickstart - --max-new-tokens 500 --temperature 0
  mamba-slm generate runs/quickstart "import " -n 3 --seed 7 --stop $'\\n\\n' --json
  mamba-slm generate runs/quickstart "def main():" --beams 4 -n 2
  mamba-slm generate runs/quickstart "def main():" --contrastive-k 4
  mamba-slm generate runs/quickstart "x = " --regex '[0-9]+'
  mamba-slm generate runs/quickstart --jsonl prompts.jsonl --out texts.jsonl --batch-rows 32
  mamba-slm generate runs/quickstart "def main():" --prompt-lookup 8 --prompt-cache prompts/
  mamba-slm generate quickstart-onnx "def main():" --runtime onnx --threads 2
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm generate`."""
    parser.epilog = EPILOG
    parser.add_argument(
        "model", metavar="MODEL", help="run directory, checkpoint, model folder or exported ONNX folder"
    )
    parser.add_argument(
        "prompt", metavar="PROMPT", nargs="*", default=[], help="texts to continue, - for stdin; none: a new document"
    )
    parser.add_argument("--prompt-file", action="append", default=[], metavar="FILE", help="a file that holds a prompt")
    parser.add_argument(
        "--jsonl",
        action="append",
        default=[],
        metavar="FILE",
        help='JSON Lines with a field "prompt", - for stdin; the results are JSON Lines, too',
    )
    parser.add_argument("--out", metavar="FILE", help="write the results to FILE, as JSON Lines")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE once the new one is complete")
    parser.add_argument(
        "--batch-rows", type=parse_count, default=16, metavar="N", help="texts made at the same time, default 16"
    )
    parser.add_argument("-n", "--samples", type=parse_count, default=1, metavar="N", help="continuations, default 1")
    add_sampling_flags(parser, max_new_tokens=200)
    parser.add_argument("--echo", action="store_true", help="print the prompt, too")
    parser.add_argument("--no-stream", action="store_true", help="print the text when it is complete")
    parser.add_argument("--json", action="store_true", help="one JSON document with texts, counts and speeds")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from mamba_slm.core.errors import ConfigError
    from mamba_slm.core.output import require_free
    from mamba_slm.generation.events import Timing
    from mamba_slm.generation.loading import load
    from mamba_slm.generation.text import generate_text

    sampler_of(args)  # what is wrong with the settings is said before a model is loaded
    strategy, seed = strategy_of(args), seed_of(args)
    if args.batch_rows < 1:
        raise ConfigError(f"--batch-rows must be at least 1, got {args.batch_rows}")
    if args.out is not None:
        require_free(Path(args.out), overwrite=args.overwrite)
    prompts = read_prompts(args.prompt, args.prompt_file, args.jsonl)
    loaded = load(args.model, runtime=args.runtime, settings=runtime_settings(args))
    sampler, cache = sampler_of(args, constraint_of(args, loaded.tokenizer)), prompt_cache_for(args, loaded)
    console.say(f"{loaded.folder}, {loaded.runtime.description} ({loaded.reason}), seed {seed}")

    is_lines = bool(args.jsonl or args.out) and not args.json
    streams = not (is_lines or args.no_stream or args.json) and len(prompts) * args.samples == 1
    made: list[TextCompletion] = []
    timing = Timing()
    size = max(1, args.batch_rows // max(1, args.samples))
    with LineWriter(args.out) as writer:
        for start in range(0, len(prompts), size):
            part = prompts[start : start + size]
            show = Shown(part[0].text if args.echo else "") if streams else None
            try:
                completions, spent = generate_text(
                    loaded.runtime,
                    loaded.tokenizer,
                    [prompt.text for prompt in part],
                    max_new_tokens=args.max_new_tokens,
                    sampler=sampler,
                    stops=args.stop,
                    seed=seed,
                    samples_per_prompt=args.samples,
                    strategy=strategy,
                    first_row=start * args.samples,
                    on_text=show or (lambda event: None),
                )
            finally:
                if show is not None:
                    show.finish()
            made += completions
            timing.add(spent)
            if is_lines:
                writer.write(result_lines(part, completions, args.samples))
    if args.json:
        console.print_json(as_json(args, loaded, prompts, seed, made, timing))
    elif not (is_lines or streams):
        echoed = [prompt.text if args.echo else "" for prompt in prompts for _ in range(args.samples)]
        print_all([before + completion.text for before, completion in zip(echoed, made, strict=True)])
    for line in (speed_line(timing), *what_was_saved(strategy, cache)):
        console.say(line)
    console.say("ended by: " + endings_line(made))
    return 0


ENDINGS = {
    "eos": "end of document",
    "stop_token": "end of turn",
    "stop_string": "stop text",
    "length": "--max-new-tokens",
    "context": "the model's context is full",
}
"""What a finish reason means to a reader."""


class Shown:
    """Writes the text of each event to stdout as it comes; ends with a newline, also when interrupted."""

    def __init__(self, before: str):
        """`before` is written with the first event: what is refused leaves stdout empty."""
        self._before: str | None = before

    def __call__(self, event: TextEvent) -> None:
        if self._before is not None:
            sys.stdout.write(self._before)
            self._before = None
        sys.stdout.write(event.text)
        sys.stdout.flush()

    def finish(self) -> None:
        """End the line, if there is one."""
        if self._before is None:
            sys.stdout.write("\n")
            sys.stdout.flush()


class LineWriter:
    """Lines to stdout, or to a file that has its name only when it is complete."""

    def __init__(self, name: str | None):
        """
        Raises:
            DataError: the file cannot be written.
        """
        from mamba_slm.core.errors import DataError

        self._name = name
        self._partial = f"{name}.partial"
        try:
            self._file = sys.stdout if name is None else open(self._partial, "w", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise DataError(f"{self._partial} cannot be written: {error.strerror}") from error

    def __enter__(self) -> LineWriter:
        return self

    def write(self, lines: Iterator[dict]) -> None:
        """One JSON object per line, at once."""
        for line in lines:
            self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
        self._file.flush()

    def __exit__(self, kind: object, *_: object) -> None:
        if self._name is None:
            return
        self._file.close()
        if kind is None:
            os.replace(self._partial, self._name)
            console.say(f"written to {self._name}")
        else:
            console.say(f"what was made so far is in {self._partial}")


def result_lines(prompts: Sequence[Prompt], completions: Sequence[TextCompletion], samples: int) -> Iterator[dict]:
    """One JSON object per completion."""
    for number, made in enumerate(completions):
        prompt = prompts[number // samples]
        line = {**prompt.fields, "prompt": prompt.text, "sample": number % samples, "text": made.text}
        line |= {"num_tokens": made.num_tokens, "finish_reason": made.finish_reason}
        yield line | ({} if made.score is None else {"score": made.score})


def print_all(texts: list[str]) -> None:
    """Every text on stdout; several are numbered."""
    for number, text in enumerate(texts, start=1):
        if len(texts) > 1:
            print(f"=== {number} of {len(texts)}")
        print(text)


def endings_line(completions: Sequence[TextCompletion]) -> str:
    """Why texts ended: each of a few, the numbers of many."""
    endings = [ENDINGS[completion.finish_reason] for completion in completions]
    if len(endings) <= 4:
        return ", ".join(endings)
    return ", ".join(f"{ending} ({endings.count(ending):,})" for ending in dict.fromkeys(endings))


def speed_line(timing) -> str:
    """Prefill and decode speed."""
    return (
        f"prefill {timing.prefill_tokens:,} tokens, {three_digits(timing.prefill_tokens_per_second)} tok/s; "
        f"decode {timing.decode_tokens:,} tokens, {three_digits(timing.decode_tokens_per_second)} tok/s"
    )


SETTINGS = (
    *("max_new_tokens", "temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty"),
    *("frequency_penalty", "presence_penalty", "no_repeat_ngram_size", "logit_bias", "stop", "beams", "length_penalty"),
    *("early_stopping", "contrastive_k", "contrastive_alpha", "best_of", "batch_invariant", "json_schema", "regex"),
    *("choice", "prompt_lookup", "draft", "prompt_cache", "device"),
)
"""Flags that `--json` repeats."""


def as_json(args: argparse.Namespace, loaded, prompts: Sequence[Prompt], seed: int, completions, timing) -> dict:
    """What `--json` prints; with several prompts, their completions stand one after the other."""
    asked = {"prompt": prompts[0].text} if len(prompts) == 1 else {"prompts": [prompt.text for prompt in prompts]}
    return {
        "model": str(loaded.folder),
        "runtime": loaded.runtime.description,
        **asked,
        "seed": seed,
        "settings": {name: getattr(args, name) for name in SETTINGS},
        "completions": [
            {"text": c.text, "num_tokens": c.num_tokens, "finish_reason": c.finish_reason}
            | ({} if c.score is None else {"score": c.score})
            for c in completions
        ],
        "prompt_tokens": timing.prefill_tokens,
        "prefill_seconds": timing.prefill_seconds,
        "decode_tokens": timing.decode_tokens,
        "decode_seconds": timing.decode_seconds,
    }
