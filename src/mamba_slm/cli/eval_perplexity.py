"""`mamba-slm eval MODEL --perplexity TEXT`: perplexity and bits per byte of a model on texts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mamba_slm.cli import console
from mamba_slm.cli.data_contamination import training_documents
from mamba_slm.core.units import parse_count

if TYPE_CHECKING:
    from mamba_slm.evaluation.perplexity import TextPerplexity
    from mamba_slm.generation.loading import LoadedModel

FILE = "perplexity.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of a text instead of questions."""
    group = parser.add_argument_group("perplexity of texts, in place of benchmarks")
    group.add_argument(
        "--perplexity",
        action="append",
        metavar="TEXT",
        help="file, folder or token shards as `data inspect` reads; may be repeated",
    )
    group.add_argument(
        "--window", type=parse_count, metavar="N", help="tokens read at once, default: the model's context"
    )
    group.add_argument(
        "--stride", type=parse_count, metavar="N", help="tokens between windows, default: three quarters of one"
    )
    group.add_argument("--by-position", action="store_true", help="also the perplexity by the place in a window")


def run(args: argparse.Namespace, loaded: LoadedModel) -> int:
    """Measure each text and print a table; with --out, write DIR/perplexity.json."""
    from mamba_slm.core.errors import ConfigError
    from mamba_slm.core.files import write_json_atomic
    from mamba_slm.data.reading.options import ReadOptions
    from mamba_slm.data.reading.report import ReadReport
    from mamba_slm.evaluation.perplexity import measure_perplexity
    from mamba_slm.generation.runtime import TorchRuntime

    runtime = loaded.runtime
    if not isinstance(runtime, TorchRuntime):
        raise ConfigError("texts are read by models that PyTorch runs")
    found = [
        measure_perplexity(
            runtime.model,
            loaded.tokenizer,
            list(training_documents([text], None, ReadOptions(), ReadReport())),
            text=text,
            context_tokens=args.window,
            stride_tokens=args.stride,
            by_position=args.by_position,
        )
        for text in args.perplexity
    ]
    document = {"format_version": 1, "model": str(loaded.folder), "texts": [one.to_dict() for one in found]}
    if args.out:
        write_json_atomic(Path(args.out) / FILE, document)
        console.say(f"wrote {Path(args.out) / FILE}")
    if args.json:
        console.print_json(document)
    else:
        show(found)
    return 0


def show(found: list[TextPerplexity]) -> None:
    """A row for each text, then its positions."""
    rows = [
        [one.text, f"{one.measured.bits_per_byte:.4f}", f"{one.token_perplexity:,.2f}", f"{one.word_perplexity:,.2f}",
         f"{one.measured.num_tokens:,}", f"{one.num_words:,}"]
        for one in found
    ]  # fmt: skip
    header = ["text", "bits/byte", "per token", "per word", "tokens", "words"]
    print(console.table(header, rows, right=header[1:]))
    for one in found:
        console.say(f"{one.text}: {one.measured.how}")
        if one.positions:
            places = [[f"{at.start:,} to {at.end:,}", f"{at.perplexity:,.2f}"] for at in one.positions]
            print(f"\n{one.text} by position\n{console.table(['tokens', 'per token'], places, right=['per token'])}")
            console.say(f"by position: {one.position_rows}")
