"""`mamba-slm bench`: how fast a model trains, reads and writes here, beside transformers."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from mamba_slm.cli import bench_serve, console
from mamba_slm.cli.parser import Parser
from mamba_slm.core.units import parse_count

EPILOG = """\
MODEL is a preset, with random weights, or a model folder, a checkpoint or a run. Each contender runs in a process of
its own; all are timed in turns, in the same run, with the same threads. `granite` is transformers'
GraniteMoeHybridForCausalLM with the same weights, and every cell first proves that it computes the same; `llama` is its
LlamaForCausalLM with as many parameters. Both need the extra `hf`; `--peers none` does not.

What the machine can do is measured in the same run: matrix products and reading memory. Every speed is also a share of
that.

--onnx adds ONNX Runtime with fp32, INT8 and INT4 weights and, where llama-cpp-python is installed, llama.cpp with Q8_0
and Q4_0, all exported from the same weights before the run; it measures prefill and decode in fp32 unless told
otherwise. --ours bf16,int8,int4 puts ours with such weights beside them.

--crossover compares the model with attention alone: the same widths, `*-` in every layer, as many parameters, the same
kernels, from 512 to 16,384 tokens. --startup measures how long fresh processes take until they have imported the
package, shown the help, and generated a first token; MODEL is a preset here.

`mamba-slm bench serve` measures a server under load instead.

The measured cells are in --out after each of them, and an interrupt prints them. `make bench` writes
docs/reference/benchmarks.md and docs/reference/crossover.md.

examples:
  mamba-slm bench 60M --out bench.json
  mamba-slm bench nano --tasks decode --lengths 64 --rounds 1 --peers none
  mamba-slm bench 60M --onnx --ours bf16,int8,int4 --lengths 512 --threads 2
  mamba-slm bench 60M --tasks decode --lengths 512 --batches 1,8,32 --ours int8
  mamba-slm bench nano --crossover --lengths 64,128 --out crossover.json
  mamba-slm bench 60M --startup
  mamba-slm bench serve runs/quickstart
"""


def words(text: str) -> tuple[str, ...]:
    """A list separated by commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def counts(text: str) -> tuple[int, ...]:
    """A list of counts separated by commas."""
    return tuple(map(parse_count, words(text)))


def configure(parser: Parser) -> None:
    """Arguments of `mamba-slm bench`."""
    parser.description = "Train step, prefill and decode beside transformers: tokens/s, memory, share of the machine."
    parser.epilog = EPILOG
    bench_serve.configure(parser.add_form("serve"))
    parser.add_argument("model", metavar="MODEL", nargs="?", default="60M", help="preset or model, default 60M")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--crossover", action="store_true", help="against attention alone, by length")
    mode.add_argument("--startup", action="store_true", help="seconds to import, to the help and to a first token")
    parser.add_argument("--tasks", type=words, metavar="NAME,NAME", help="default train,prefill,decode")
    parser.add_argument("--lengths", type=counts, metavar="N,N", help="tokens, default 512,1024,2048,4096")
    parser.add_argument("--train-lengths", type=counts, metavar="N,N", help="of training, where they are others")
    parser.add_argument("--batches", type=counts, metavar="N,N", help="sequences decoded at once, default 1")
    parser.add_argument("--peers", type=words, metavar="NAME,NAME", help="default granite,llama; none: ours alone")
    parser.add_argument(
        "--runtime",
        choices=("compiled", "torch"),
        help="of ours in decoding; default compiled, with torch beside it as `plain`, where there is a C++ compiler",
    )
    parser.add_argument("--onnx", action="store_true", help="beside ONNX Runtime and llama.cpp, too")
    parser.add_argument("--engines", type=words, metavar="NAME,NAME", help="of these, only some: onnx-int8, ...")
    parser.add_argument("--ours", type=words, metavar="NAME,NAME", help="ours also in bf16, int8, int4, mixed")
    parser.add_argument(
        "--precision",
        type=words,
        metavar="NAME,NAME",
        help="fp32, bf16 or both; default: training in what the trainer would choose here, prefill and decode in both",
    )
    parser.add_argument("--threads", type=parse_count, metavar="N", help="CPU threads, default: every usable core")
    parser.add_argument(
        "--rounds", type=parse_count, metavar="N", help="timed rounds, default 5; fewer where one takes long"
    )
    parser.add_argument(
        "--budget", type=parse_count, metavar="N", help="seconds; cells that do not fit are left out, and named"
    )
    parser.add_argument("--decode-tokens", type=parse_count, metavar="N", help="new tokens in a round, default 32")
    parser.add_argument("--seed", type=parse_count, metavar="N", help="of random weights and tokens, default 0")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the results as JSON, again after every cell")
    parser.add_argument("--json", action="store_true", help="the results as JSON on stdout instead of the table")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.subcommand == "serve":
        return bench_serve.run(args)
    if args.startup:
        from mamba_slm.cli.bench_startup import run_startup

        return run_startup(args.model, rounds=args.rounds, out=args.out, as_json=args.json)
    from mamba_slm.cli.bench_engines import export_for
    from mamba_slm.cli.bench_settings import about_this_run, check_peers, compile_first, settings_of
    from mamba_slm.core.errors import InterruptedRunError
    from mamba_slm.core.files import write_json_atomic
    from mamba_slm.evaluation.bench.cells import context_needed
    from mamba_slm.evaluation.bench.contenders import named_config
    from mamba_slm.evaluation.bench.measure import measure_all

    settings = settings_of(args)
    config = named_config(args.model, context_needed(settings))
    check_peers(settings, config)
    compile_first(settings)
    results: dict[str, Any] = {}

    def save(so_far: dict[str, Any]) -> None:
        results.update(so_far)
        if args.out is not None:
            write_json_atomic(args.out, so_far)

    try:
        with tempfile.TemporaryDirectory() as folder:
            exported = export_for(
                settings.engines,
                args.model,
                seed=settings.seed,
                folder=Path(folder),
                context_tokens=config.max_context_tokens,
            )
            measure_all(
                args.model, config, settings, about=about_this_run(), exported=exported, say=console.say, save=save
            )
    except KeyboardInterrupt:
        cells = f"{len(results.get('cells', []))} cells were measured"
        where = f"; they are in {args.out}" if results and args.out is not None else ""
        raise InterruptedRunError(f"interrupted: {cells}{where}") from None
    finally:
        if results:
            show(results, as_json=args.json)
    return 0


def show(results: dict[str, Any], *, as_json: bool) -> None:
    """The results on stdout; what to know about them on stderr."""
    from mamba_slm.evaluation.bench import table

    if as_json:
        console.print_json(results)
    else:
        print(console.table(table.HEADER, list(table.table_rows(results)), right=table.RIGHT), flush=True)
        console.say(table.EXPLANATION)
        console.say(table.limits_in_words(results))
        console.say(console.table(table.LIMITS_HEADER, list(table.limit_rows(results)), right=()))
        if flat := table.flatness(results):
            said = ", ".join(f"{name} {value:.0%}" for name, value in flat.items())
            console.say(f"prefill, slowest over fastest of the lengths: {said}")
    for line in table.left_out_lines(results):
        console.say(line)
    for remark in table.machine_remarks(results):
        console.say(f"{console.coloured('warning:', 'yellow')} {remark}")
