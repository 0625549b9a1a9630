"""Instruction data packed and padded, side by side: tokens per second of the same examples, forward and backward.

    python benchmarks/packing.py MODEL DATA... [--examples 64] [--batch 8] [--row-tokens 2048] [--rounds 3]
        [--kernels auto] [--threads 1] [--out FILE]

Every way computes the summed loss of the same examples and its gradients, through the wrapper of transformers:

    padded              --batch examples in a batch, in random order, filled up to the longest: the Trainer's way
    padded by length    the same of examples of like lengths: its train_sampling_strategy="group_by_length" at its best
    packed              rows of --row-tokens, filled by best fit, one row in a batch

Tokens are those of the examples, without padding. The losses must agree, or nothing is reported.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from _measure import clock, surroundings

from mamba_slm.core.errors import CheckFailedError
from mamba_slm.core.files import write_json_atomic
from mamba_slm.data.conversations.read import read_conversations
from mamba_slm.finetuning.collate import Batch, packed_batch, padded_batch
from mamba_slm.finetuning.examples import EncodedExample, encode_conversations
from mamba_slm.finetuning.packing import packed_rows
from mamba_slm.finetuning.template import choose_template
from mamba_slm.model.checkpoint import load_model, resolve_model_folder
from mamba_slm.model.hf import HybridSlmForCausalLM
from mamba_slm.text.tokenizer import Tokenizer
from mamba_slm.training.kernels import kernels_in_use

LOSS_TOLERANCE = 1e-4
SEED = 0
HEAD = "| data | way | places per token | tokens/s | times as fast |\n|---|---|--:|--:|--:|"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model folder")
    parser.add_argument("data", nargs="+", help="files of conversations")
    parser.add_argument("--examples", type=int, default=64, help="drawn from each file")
    parser.add_argument("--batch", type=int, default=8, help="examples in a padded batch")
    parser.add_argument("--row-tokens", type=int, default=2048, help="length of a packed row, and most of an example")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kernels", choices=("auto", "native", "torch"), default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    folder = resolve_model_folder(args.model)
    wrapper = HybridSlmForCausalLM.from_language_model(load_model(folder)).train()
    tokenizer = Tokenizer.load(folder)
    with kernels_in_use(args.kernels, "cpu", quiet) as kernels:
        print(f"{surroundings()}\n{kernels}\n{HEAD}", flush=True)
        template = choose_template(folder, tokenizer).text
        rows = [row for path in args.data for row in measured(Path(path), wrapper, tokenizer, template, args)]
    if args.out is not None:
        write_json_atomic(args.out, {"surroundings": surroundings(), "kernels": kernels, "rows": rows})


def measured(
    path: Path, wrapper: HybridSlmForCausalLM, tokenizer: Tokenizer, template: str, args: argparse.Namespace
) -> list[dict[str, Any]]:
    """One row for each way.

    Raises:
        CheckFailedError: two ways have different losses.
    """
    read = read_conversations(path, say=quiet)
    encoded = encode_conversations(read.items, tokenizer, template, context_tokens=args.row_tokens, say=quiet)
    examples = random.Random(SEED).sample(encoded.examples, min(args.examples, len(encoded.examples)))
    tokens = sum(len(example.tokens) for example in examples)
    ways = batches_of(examples, tokenizer.pad_id, args)
    losses = {name: sum(float(loss_of(wrapper, batch).detach()) for batch in batches) for name, batches in ways.items()}
    expected = losses["padded"]
    for name, loss in losses.items():
        if abs(loss - expected) > LOSS_TOLERANCE * abs(expected):
            raise CheckFailedError(f"{path}: the loss is {loss} {name} and {expected} padded")
    seconds = [{name: timed(wrapper, batches) for name, batches in ways.items()} for _ in range(args.rounds)]
    rows = []
    for name, batches in ways.items():
        row = {
            "data": path.name,
            "way": name,
            "examples": len(examples),
            "tokens": tokens,
            "places_per_token": sum(batch["input_ids"].numel() for batch in batches) / tokens,
            "tokens_per_second": tokens / statistics.median(one[name] for one in seconds),
            "times_as_fast": statistics.median(one["padded"] / one[name] for one in seconds),
        }
        print(
            f"| {path.name} | {name} | {row['places_per_token']:.2f} | {row['tokens_per_second']:,.0f} | "
            f"{row['times_as_fast']:.2f} |",
            flush=True,
        )
        rows.append(row)
    return rows


def batches_of(examples: Sequence[EncodedExample], pad_id: int, args: argparse.Namespace) -> dict[str, list[Batch]]:
    """By the name of the way."""
    by_length = sorted(examples, key=lambda example: len(example.tokens))
    packed = packed_rows(examples, row_tokens=args.row_tokens, seed=SEED)

    def padded(order: Sequence[EncodedExample]) -> list[Batch]:
        parts = [order[first : first + args.batch] for first in range(0, len(order), args.batch)]
        return [padded_batch(part, pad_id=pad_id) for part in parts]

    return {
        "padded": padded(examples),
        "padded by length": padded(by_length),
        "packed": [packed_batch([row], pad_id=pad_id) for row in packed],
    }


def loss_of(wrapper: HybridSlmForCausalLM, batch: Batch) -> torch.Tensor:
    """Summed over the learned tokens of a batch."""
    out = wrapper(**batch, num_items_in_batch=1, skip_logits=True)
    return out.loss  # type: ignore[union-attr, return-value]


def timed(wrapper: HybridSlmForCausalLM, batches: Sequence[Batch]) -> float:
    """Seconds of forward and backward over all examples."""
    wrapper.zero_grad()
    start = clock()
    for batch in batches:
        loss_of(wrapper, batch).backward()
    return clock() - start


def quiet(line: str) -> None:
    """Say nothing."""


if __name__ == "__main__":
    main()
