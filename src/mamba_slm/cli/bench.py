"""`mamba-slm bench`: how fast a model trains, reads and writes here, beside transformers."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamba_slm.cli import console
from mamba_slm.core.units import format_count, parse_count

if TYPE_CHECKING:
    from mamba_slm.evaluation.bench.cells import BenchSettings

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
"""How threads wait for each other, the same for every contender; `core.threads` chooses where the user has not."""

EPILOG = """\
MODEL is a preset, with random weights, or a model folder, a checkpoint or a run. Each contender runs in a process of
its own; all are timed in turns, in the same run, with the same threads. `granite` is transformers'
GraniteMoeHybridForCausalLM with the same weights, and every cell first proves that it computes the same; `llama` is its
LlamaForCausalLM with as many parameters. Both need the extra `hf`; `--peers none` does not.

--onnx adds ONNX Runtime with fp32, INT8 and INT4 weights and, where llama-cpp-python is installed, llama.cpp with Q8_0
and Q4_0, all exported from the same weights before the run; it measures prefill and decode in fp32 unless told
otherwise.

The measured cells are in --out after each of them, and an interrupt prints them. `make bench` writes
docs/reference/benchmarks.md.

examples:
  mamba-slm bench 60M --out bench.json
  mamba-slm bench nano --tasks decode --lengths 64 --rounds 1 --peers none
  mamba-slm bench 60M --onnx --lengths 512 --threads 2
  mamba-slm bench nano --tasks train,prefill --lengths 64,128 --peers granite --precision fp32 --json
"""


def words(text: str) -> tuple[str, ...]:
    """A list separated by commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def counts(text: str) -> tuple[int, ...]:
    """A list of counts separated by commas."""
    return tuple(map(parse_count, words(text)))


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm bench`."""
    parser.description = "Train step, prefill and decode beside transformers: tokens/s, memory, share of the machine."
    parser.epilog = EPILOG
    parser.add_argument("model", metavar="MODEL", nargs="?", default="60M", help="preset or model, default 60M")
    parser.add_argument("--tasks", type=words, metavar="NAME,NAME", help="default train,prefill,decode")
    parser.add_argument("--lengths", type=counts, metavar="N,N", help="tokens, default 512,1024,2048,4096")
    parser.add_argument("--peers", type=words, metavar="NAME,NAME", help="default granite,llama; none: ours alone")
    parser.add_argument(
        "--runtime",
        choices=("compiled", "torch"),
        help="of ours in decoding; default compiled, with torch beside it as `plain`, where there is a C++ compiler",
    )
    parser.add_argument("--onnx", action="store_true", help="beside ONNX Runtime and llama.cpp, too")
    parser.add_argument("--engines", type=words, metavar="NAME,NAME", help="of these, only some: onnx-int8, ...")
    parser.add_argument(
        "--precision",
        type=words,
        metavar="NAME,NAME",
        help="fp32, bf16 or both; default: training in what the trainer would choose here, prefill and decode in both",
    )
    parser.add_argument("--threads", type=parse_count, metavar="N", help="CPU threads, default: every usable core")
    parser.add_argument(
        "--rounds", type=parse_count, metavar="N", help="timed rounds, default 5; 3 where one takes 30 s"
    )
    parser.add_argument("--decode-tokens", type=parse_count, metavar="N", help="new tokens in a round, default 32")
    parser.add_argument("--seed", type=parse_count, metavar="N", help="of random weights and tokens, default 0")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the results as JSON, again after every cell")
    parser.add_argument("--json", action="store_true", help="the results as JSON on stdout instead of the table")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from mamba_slm.cli.bench_engines import export_for
    from mamba_slm.core.errors import InterruptedRunError
    from mamba_slm.core.files import write_json_atomic
    from mamba_slm.evaluation.bench.contenders import named_config
    from mamba_slm.evaluation.bench.measure import measure_all

    config = named_config(args.model)
    settings = settings_of(args)
    check_peers(settings, config)
    compile_first(args.model, settings)
    results: dict[str, Any] = {}

    def save(so_far: dict[str, Any]) -> None:
        results.update(so_far)
        if args.out is not None:
            write_json_atomic(args.out, so_far)

    try:
        with tempfile.TemporaryDirectory() as folder:
            exported = export_for(settings.engines, args.model, seed=settings.seed, folder=Path(folder))
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


def compile_first(model: str, settings: BenchSettings) -> None:
    """Compile what decoding needs before anything is timed, in this process, whose memory nobody measures.

    Raises:
        SetupError: no compiler.
    """
    if not settings.compiled or "decode" not in settings.tasks:
        return
    import torch

    from mamba_slm.evaluation.bench.cells import OURS
    from mamba_slm.evaluation.bench.contenders import build_contender

    torch.set_num_threads(settings.threads)  # the machine code depends on it
    for precision in settings.inference_precisions:
        console.say(f"compiling the decoding step in {precision}: half a minute, or nothing if it was compiled before")
        build_contender(OURS, model, seed=settings.seed, precision=precision, compiled=True)


def settings_of(args: argparse.Namespace) -> BenchSettings:
    """The settings that the flags describe; what was not given is automatic."""
    from mamba_slm.cli.bench_engines import chosen_engines
    from mamba_slm.core.compiler import cxx_compiler
    from mamba_slm.evaluation.bench.cells import PRECISIONS, BenchSettings
    from mamba_slm.runs.machine import usable_cores
    from mamba_slm.training.precision import choose_precision

    given = {name: getattr(args, name) for name in ("tasks", "lengths", "rounds", "decode_tokens", "seed")}
    given = {name: value for name, value in given.items() if value is not None}
    engines = chosen_engines(args.engines, onnx=args.onnx)
    if engines:
        given.setdefault("tasks", ("prefill", "decode"))
    if args.peers is not None:
        given["peers"] = () if args.peers == ("none",) else args.peers
    automatic = choose_precision("auto", "cpu")
    train, inference = (automatic.value,), PRECISIONS if automatic.value == "bf16" else ("fp32",)
    if args.precision is not None or engines:
        train = inference = args.precision or ("fp32",)
    else:
        console.say(f"precision: training {automatic}; prefill and decode {' and '.join(inference)}")
    return BenchSettings(
        **given,
        compiled=args.runtime == "compiled" or (args.runtime is None and cxx_compiler() is not None),
        engines=engines,
        train_precisions=train,
        inference_precisions=inference,
        threads=args.threads or usable_cores(),
    )


def check_peers(settings: BenchSettings, config: Any) -> None:
    """Name the peers, or say what is missing for them, before anything is measured.

    Raises:
        MissingDependencyError: transformers is not installed.
        ConfigError: a GraniteMoeHybrid cannot hold this model.
    """
    from mamba_slm.core.optional import require
    from mamba_slm.evaluation.bench.cells import GRANITE, LLAMA, llama_of_equal_size
    from mamba_slm.model.count import count_parameters
    from mamba_slm.model.granite import granite_config

    console.say(f"ours: {config.pattern}, {count_parameters(config)}")
    if settings.peers:
        transformers = require(
            "transformers", extra="hf", purpose="comparing with transformers (--peers none does not)"
        )
        console.say(f"transformers {transformers.__version__}, attn_implementation sdpa")
    if GRANITE in settings.peers:
        granite_config(config)
        console.say("granite: GraniteMoeHybridForCausalLM with the same weights")
    if LLAMA in settings.peers:
        llama = llama_of_equal_size(config)
        console.say(
            f"llama: LlamaForCausalLM, {llama.num_layers} layers, d {llama.hidden_size}, heads {llama.num_heads}/"
            f"{llama.num_kv_heads}, feed-forward {llama.feed_forward_size}, "
            f"{format_count(count_parameters(llama).total)} parameters"
        )


def about_this_run() -> dict[str, Any]:
    """What the numbers depend on besides the settings."""
    from mamba_slm.runs.machine import hardware_summary
    from mamba_slm.runs.record import installed_versions, source_commit
    from mamba_slm.runs.redact import redact_command

    return {
        "command": list(redact_command(["mamba-slm", *sys.argv[1:]])),
        "versions": installed_versions() | package_versions(),
        "hardware": hardware_summary(),
        "source": source_commit(),
        "waiting": {name: os.environ[name] for name in WAITING if name in os.environ},
    }


def package_versions() -> dict[str, str]:
    """The versions of the packages that contenders come from, from their metadata."""
    import importlib.metadata

    found = {}
    for name in ("transformers", "onnxruntime", "llama_cpp_python"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def show(results: dict[str, Any], *, as_json: bool) -> None:
    """The results on stdout; what to know about them on stderr."""
    from mamba_slm.evaluation.bench.table import EXPLANATION, HEADER, RIGHT, machine_remarks, table_rows

    if as_json:
        console.print_json(results)
    else:
        print(console.table(HEADER, list(table_rows(results)), right=RIGHT), flush=True)
        console.say(EXPLANATION)
    for remark in machine_remarks(results):
        console.say(f"{console.coloured('warning:', 'yellow')} {remark}")
