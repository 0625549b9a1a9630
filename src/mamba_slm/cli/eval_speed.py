"""`mamba-slm eval MODEL --task benchmark`: how fast a model reads and writes here."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mamba_slm.cli import console
from mamba_slm.cli.adapter_flags import adapter_choices
from mamba_slm.core.units import format_bytes, parse_count

if TYPE_CHECKING:
    from mamba_slm.evaluation.speed import Speed

FILE = "speed.json"
HEADER = [
    "rows", "prompt", "prefill p50", "p90", "p99", "prefill tok/s", "token p50", "p90", "p99", "decode tok/s", "state",
]  # fmt: skip


def counts(text: str) -> tuple[int, ...]:
    """Numbers between commas.

    >>> counts("128,1k")
    (128, 1000)
    """
    return tuple(parse_count(part) for part in text.split(","))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of speed instead of questions."""
    group = parser.add_argument_group("speed, in place of benchmarks")
    group.add_argument(
        "--task", choices=("questions", "benchmark"), default="questions",
        help="benchmark times reading and writing; questions, the default, asks --benchmarks",
    )  # fmt: skip
    group.add_argument("--num-runs", type=parse_count, default=20, metavar="N", help="times each, default 20")
    group.add_argument("--lengths", type=counts, metavar="N,N", help="tokens of the prompts, default 128,512")
    group.add_argument("--batches", type=counts, metavar="N,N", help="rows at once, default 1,8")
    group.add_argument("--new-tokens", type=parse_count, default=32, metavar="N", help="written each time, default 32")
    group.add_argument("--runtime", default="auto", help="of this measurement: auto, torch, compiled or onnx")


def run(args: argparse.Namespace) -> int:
    """Measure and print a table; with --out, write DIR/speed.json."""
    from mamba_slm.core.files import write_json_atomic
    from mamba_slm.evaluation.speed import SpeedSettings, measure_speed
    from mamba_slm.generation.loading import load
    from mamba_slm.generation.runtime import RuntimeSettings

    usual = SpeedSettings()
    settings = SpeedSettings(
        prompt_tokens=args.lengths or usual.prompt_tokens,
        batches=args.batches or usual.batches,
        new_tokens=args.new_tokens,
        num_runs=args.num_runs,
    )
    loaded = load(
        args.model,
        runtime=args.runtime,
        settings=RuntimeSettings(
            device=args.device,
            threads=args.threads,
            weights=args.weights,
            adapters=adapter_choices(args),
            kernels=True,
            say=console.say,
        ),
    )
    console.say(f"{loaded.runtime.description} ({loaded.reason})")
    found = list(measure_speed(loaded.runtime, settings, say=console.say))
    document = {
        "format_version": 1,
        "model": str(loaded.folder),
        "runtime": loaded.runtime.description,
        "num_runs": settings.num_runs,
        "new_tokens": settings.new_tokens,
        "speeds": [one.to_dict() for one in found],
    }
    if args.out:
        Path(args.out).mkdir(parents=True, exist_ok=True)
        write_json_atomic(Path(args.out) / FILE, document)
    if args.json:
        console.print_json(document)
        return 0
    print(console.table(HEADER, [row(one) for one in found], right=HEADER))
    console.say(f"times in ms; memory of this process at most {format_bytes(found[-1].peak_memory_bytes)}")
    return 0


def row(one: Speed) -> list[str]:
    """A line of the table."""
    reading, writing = ([f"{1000 * value:,.2f}" for value in times.values()] for times in (
        one.prefill_seconds, one.step_seconds,
    ))  # fmt: skip
    state = "" if one.state_bytes is None else format_bytes(one.state_bytes)
    return [
        f"{one.batch}", f"{one.prompt_tokens:,}", *reading, f"{one.prefill_tokens_per_second:,.0f}",
        *writing, f"{one.decode_tokens_per_second:,.0f}", state,
    ]  # fmt: skip
