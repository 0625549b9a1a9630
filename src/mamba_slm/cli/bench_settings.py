"""What `mamba-slm bench` measures by its flags, and what is settled before anything is timed."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from mamba_slm.cli import console
from mamba_slm.core.units import format_count

if TYPE_CHECKING:
    from mamba_slm.evaluation.bench.cells import BenchSettings
    from mamba_slm.model.config import ModelConfig

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
"""How threads wait for each other, the same for every contender; `core.threads` chooses where the user has not."""

CROSSOVER: dict[str, Any] = {
    "tasks": ("decode", "prefill", "train"),  # the short ones first, should the time end
    "lengths": (512, 1024, 2048, 4096, 8192, 16384),
    "peers": ("attention",),
    "by_length": True,
    "budget_seconds": 840.0,
    "long_seconds": 3.0,
    "long_rounds": 2,
    "very_long_seconds": 25.0,
}
"""Defaults of `--crossover`: a quarter of an hour on two cores."""


def settings_of(args: argparse.Namespace) -> BenchSettings:
    """The settings that the flags describe; what was not given is automatic."""
    from mamba_slm.cli.bench_engines import chosen_engines
    from mamba_slm.core.compiler import cxx_compiler
    from mamba_slm.evaluation.bench.cells import BenchSettings
    from mamba_slm.evaluation.bench.names import PRECISIONS
    from mamba_slm.runs.machine import usable_cores
    from mamba_slm.training.precision import choose_precision

    given: dict[str, Any] = dict(CROSSOVER) if args.crossover else {}
    names = ("tasks", "lengths", "train_lengths", "batches", "rounds", "decode_tokens", "seed")
    flags = {name: getattr(args, name) for name in names}
    given |= {name: value for name, value in flags.items() if value is not None}
    engines = chosen_engines(args.engines, onnx=args.onnx)
    variants = tuple(f"ours-{name}" for name in args.ours or ())
    beside = bool(engines or variants)
    if beside:
        given.setdefault("tasks", ("prefill", "decode"))
    if args.peers is not None:
        given["peers"] = () if args.peers == ("none",) else args.peers
    if args.budget is not None:
        given["budget_seconds"] = float(args.budget)
    automatic = choose_precision("auto", "cpu")
    train, inference = (automatic.value,), PRECISIONS if automatic.value == "bf16" else ("fp32",)
    if args.crossover:
        inference = train
    if args.precision is not None or beside:
        train = inference = args.precision or ("fp32",)
    else:
        console.say(f"precision: training {automatic}; prefill and decode {' and '.join(inference)}")
    compiled = args.runtime == "compiled" or (args.runtime is None and cxx_compiler() is not None)
    return BenchSettings(
        **given,
        compiled=compiled,
        plain=compiled and not args.crossover,
        engines=engines,
        variants=variants,
        train_precisions=train,
        inference_precisions=inference,
        threads=args.threads or usable_cores(),
    )


def check_peers(settings: BenchSettings, config: ModelConfig) -> None:
    """Name the peers, or say what is missing for them, before anything is measured.

    Raises:
        MissingDependencyError: transformers is not installed.
        ConfigError: a GraniteMoeHybrid cannot hold this model.
    """
    from mamba_slm.core.optional import require
    from mamba_slm.evaluation.bench.names import ATTENTION, GRANITE, LLAMA, PEERS
    from mamba_slm.evaluation.bench.sizes import llama_of_equal_size
    from mamba_slm.model.count import count_parameters
    from mamba_slm.model.granite import granite_config

    console.say(f"ours: {config.pattern}, {count_parameters(config)}")
    if set(settings.peers) & set(PEERS):
        transformers = require(
            "transformers", extra="hf", purpose="comparing with transformers (--peers none does not)"
        )
        console.say(f"transformers {transformers.__version__}, attn_implementation sdpa")
    if GRANITE in settings.peers:
        granite_config(config)
        console.say("granite: GraniteMoeHybridForCausalLM with the same weights")
    for name, what in ((LLAMA, "LlamaForCausalLM"), (ATTENTION, "ours with attention in every layer")):
        if name in settings.peers:
            llama = llama_of_equal_size(config)
            console.say(
                f"{name}: {what}, {llama.num_layers} layers, d {llama.hidden_size}, heads {llama.num_heads}/"
                f"{llama.num_kv_heads}, feed-forward {llama.feed_forward_size}, "
                f"{format_count(count_parameters(llama).total)} parameters"
            )


def compile_first(settings: BenchSettings) -> None:
    """Compile what contenders need before anything is timed, in this process, whose memory nobody measures.

    Raises:
        SetupError: no compiler for the compiled step; kernels that cannot be compiled are named and left out.
    """
    import torch

    from mamba_slm.generation.compiled.runtime import CompiledRuntime
    from mamba_slm.model.init import build_model
    from mamba_slm.model.presets import preset
    from mamba_slm.ops.native.start import start_native_kernels

    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        console.say(str(start_native_kernels(console.say)))
        if settings.compiled and "decode" in settings.tasks:
            CompiledRuntime(build_model(preset("nano")), say=console.say)
    finally:
        torch.set_num_threads(threads)


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
