"""Speculative decoding beside plain decoding of the same model, in turns in one process.

    python benchmarks/speculative.py MODEL [--prompt-file FILE] [--draft MODEL] [--runtime compiled] [--rounds 5]

For every way to guess: tokens per reading of the model, guesses that were right, and how many times as fast as plain
decoding it was (median over the rounds of the ratio within a round, in CPU time and in wall time; one thread, so that
CPU time is that of the work). "all right" guesses the text that plain decoding made, which is the most that guessing
can give here; "all wrong" guesses other tokens, which is what it costs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mamba_slm.core.units import parse_count
from mamba_slm.generation.generate import stream_tokens
from mamba_slm.generation.loading import load
from mamba_slm.generation.request import Strategy
from mamba_slm.generation.runtime import Runtime, RuntimeSettings
from mamba_slm.generation.sampling import Sampler
from mamba_slm.generation.speculative.decode import Speculative, SpeculativeStream
from mamba_slm.generation.speculative.proposals import Choose, DraftModel, PromptLookup, Source
from mamba_slm.generation.text import prompt_tokens

PROMPT = "Once upon a time, there was a little girl named Lily. "


class Known:
    """Guesses a text that is known already, moved by `shift` token numbers."""

    def __init__(self, text: Sequence[int], *, most: int, shift: int, vocab_size: int):
        self.text, self.most, self.shift, self.vocab_size = list(text), most, shift, vocab_size

    def start(self, target: Runtime[Any]) -> Known:
        """Itself: it has no state."""
        return self

    def propose(self, text: Sequence[int], most: int, choose: Choose) -> list[int]:
        """What follows, or something else."""
        return [(token + self.shift) % self.vocab_size for token in self.text[len(text) : len(text) + most]]


def timed(runtime: Runtime[Any], prompt: list[int], count: int, sampler: Sampler, strategy: Strategy | None):
    """(tokens, CPU seconds, wall seconds, stream) of decoding `count` tokens, the prompt left out."""
    stream = stream_tokens(runtime, [prompt], max_new_tokens=count, sampler=sampler, seed=1, strategy=strategy)
    events = iter(stream)
    tokens = [next(events).token]  # the first comes from the prompt
    started = time.process_time(), time.perf_counter()
    tokens += [event.token for event in events]
    return tokens, time.process_time() - started[0], time.perf_counter() - started[1], stream


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--draft", metavar="MODEL", help="a smaller model with the same tokenizer")
    parser.add_argument("--prompt-file", metavar="FILE", help="default: the beginning of a story")
    parser.add_argument("--tokens", type=parse_count, default=128, metavar="N", help="new tokens, default 128")
    parser.add_argument("--guesses", type=parse_count, nargs="+", default=[4, 8], metavar="N", help="default 4 and 8")
    parser.add_argument("--temperature", type=float, default=0.0, metavar="T", help="default 0: greedy")
    parser.add_argument("--runtime", default="auto", metavar="NAME", help="torch or compiled")
    parser.add_argument("--weights", metavar="KIND", help="float32, bfloat16, int8, int4 or mixed")
    parser.add_argument("--rounds", type=parse_count, default=5, metavar="N", help="default 5")
    args = parser.parse_args(arguments)

    torch.set_num_threads(1)
    settings = RuntimeSettings(device="cpu", threads=1, weights=args.weights, kernels=args.runtime != "torch")
    loaded = load(args.model, runtime=args.runtime, settings=settings)
    text = Path(args.prompt_file).read_text(encoding="utf-8") if args.prompt_file else PROMPT
    prompt = prompt_tokens(loaded.tokenizer, text)
    sampler = Sampler.from_settings(temperature=args.temperature)
    plain = timed(loaded.runtime, prompt, args.tokens, sampler, None)[0]
    sources: dict[str, Source] = {}
    for most in args.guesses:
        vocab_size = loaded.runtime.config.vocab_size
        sources[f"{most}, all right"] = Known([*prompt, *plain], most=most, shift=0, vocab_size=vocab_size)
        sources[f"{most}, all wrong"] = Known([*prompt, *plain], most=most, shift=1, vocab_size=vocab_size)
        sources[f"{most}, prompt lookup"] = PromptLookup(most=most)
        if args.draft:
            draft = load(args.draft, runtime=args.runtime, settings=settings)
            sources[f"{most}, draft"] = DraftModel(runtime=draft.runtime, most=most)
    ratios: dict[str, list[tuple[float, float]]] = {name: [] for name in sources}
    streams: dict[str, SpeculativeStream] = {}
    same: dict[str, bool] = {}
    for _ in range(args.rounds):
        _, cpu, wall, _ = timed(loaded.runtime, prompt, args.tokens, sampler, None)
        for name, source in sources.items():
            made, *spent, stream = timed(loaded.runtime, prompt, args.tokens, sampler, Speculative(source=source))
            ratios[name].append((cpu / spent[0], wall / spent[1]))
            assert isinstance(stream, SpeculativeStream)
            streams[name], same[name] = stream, made == plain
    print(
        f"{loaded.runtime.description}, {len(prompt)} prompt tokens, {args.tokens} new, plain {cpu / args.tokens:.2e} s"
    )
    print(
        "| guesses | tokens per reading | right | times as fast (CPU) | (wall) | same text |\n|---|--:|--:|--:|--:|---|"
    )
    for name, found in ratios.items():
        counts = streams[name].counts
        right = f"{counts.right / counts.guessed:.0%}" if counts.guessed else "-"
        cpu_ratio, wall_ratio = (statistics.median(column) for column in zip(*found, strict=True))
        print(
            f"| {name} | {counts.tokens_per_reading:.2f} | {right} | {cpu_ratio:.2f} | {wall_ratio:.2f} | "
            f"{'yes' if same[name] else 'no'} |"
        )


if __name__ == "__main__":
    main()
