"""`mamba-slm serve`: a model behind OpenAI's HTTP API."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from mamba_slm.cli import console, serve_adapters, serve_disk_cache, serve_guard, serve_guesses
from mamba_slm.cli.runtime_flags import add_runtime_flags, runtime_settings
from mamba_slm.core.units import format_bytes, parse_count

EPILOG = """\
Any client of OpenAI's API can be pointed to http://HOST:PORT/v1. Requests run together, a token of each in one step,
and prompts that begin alike are read once: states are kept at the ends of messages and prompts, where prompts part,
and on a sparse grid on the way (--prefix-cache-bytes 0 switches that off). Needs the extra serve.

examples:
  mamba-slm serve runs/quickstart
  mamba-slm serve runs/quickstart --port 8080 --name my-model --weights int8
  mamba-slm serve runs/quickstart --max-running 16 --prefix-cache-bytes 4Gi
  mamba-slm serve runs/quickstart --batch-invariant
  mamba-slm serve runs/quickstart --adapter-dir adapters --preload-adapter stories
  mamba-slm serve runs/quickstart --prompt-lookup 8
  mamba-slm serve runs/quickstart --host 0.0.0.0 --api-keys api-keys.json --tokens-per-minute 100k
  mamba-slm serve runs/quickstart --prefix-cache-dir ~/.cache/my-states
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm serve`."""
    parser.epilog = EPILOG
    parser.add_argument("model", metavar="MODEL", help="run directory, checkpoint or model folder")
    parser.add_argument("--host", default="127.0.0.1", metavar="HOST", help="default 127.0.0.1: this machine only")
    parser.add_argument(
        "--port", type=parse_count, default=8000, metavar="N", help="default 8000; 0 takes one that is free"
    )
    parser.add_argument("--name", metavar="NAME", help="of the model in the API, default the name of its folder")
    group = parser.add_argument_group("engine")
    group.add_argument(
        "--max-running", type=parse_count, default=64, metavar="N", help="requests that run at once, default 64"
    )
    group.add_argument(
        "--max-waiting", type=parse_count, default=1024, metavar="N", help="more are refused with 429, default 1,024"
    )
    group.add_argument(
        "--kv-tokens",
        type=parse_count,
        default=131_072,
        metavar="N",
        help="tokens whose keys and values have room, running and cached together, default 131,072",
    )
    group.add_argument(
        "--step-tokens",
        type=parse_count,
        metavar="N",
        help="tokens in one step, default 512 more than --max-running; fewer: steadier streams, more: faster prompts",
    )
    group.add_argument(
        "--prefix-cache-bytes",
        type=parse_count,
        default=2**30,
        metavar="N",
        help="for states of prompts, and keys and values that only they hold, default 1Gi; 0: none",
    )
    group.add_argument(
        "--batch-invariant",
        action="store_true",
        help="what a request returns does not depend on others by a bit; slower",
    )
    group.add_argument(
        "--drain-seconds",
        type=parse_count,
        default=30,
        metavar="N",
        help="how long requests may go on after SIGTERM or Ctrl-C, default 30",
    )
    serve_adapters.add_flags(parser)
    serve_disk_cache.add_flags(parser)
    serve_guesses.add_flags(parser)
    serve_guard.add_flags(parser)
    add_runtime_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command until it is told to stop."""
    from mamba_slm.core.optional import require

    for module in ("fastapi", "uvicorn", "httptools"):
        require(module, extra="serve", purpose="`mamba-slm serve`")
    from mamba_slm.generation.loading import load
    from mamba_slm.model.fingerprint import fingerprint_of_folder
    from mamba_slm.model.onnx_contract import is_onnx_folder
    from mamba_slm.serving.api.server import serve
    from mamba_slm.serving.api.service import ServedModel
    from mamba_slm.serving.cache.prefix_cache import CacheSettings
    from mamba_slm.serving.engine.beside import reader_of
    from mamba_slm.serving.engine.opening import open_engine
    from mamba_slm.serving.engine.settings import EngineSettings
    from mamba_slm.serving.model_files import ModelFiles
    from mamba_slm.text.chat_template import read_chat_template

    settings = EngineSettings(
        max_running=args.max_running,
        max_waiting=args.max_waiting,
        kv_tokens=args.kv_tokens,
        step_tokens=args.step_tokens or args.max_running + 512,
        batch_invariant=args.batch_invariant,
        cache=CacheSettings(max_bytes=args.prefix_cache_bytes),
    )
    guard = serve_guard.settings(args)
    loaded = load(args.model, runtime=args.runtime, settings=runtime_settings(args))
    name = args.name or Path(args.model).resolve().name
    weights = loaded.folder if loaded.adapted is None else loaded.adapted.base  # an adapter's folder holds no model
    files = ModelFiles(weights, None if is_onnx_folder(weights) else fingerprint_of_folder)
    adapters = serve_adapters.open_store(args, loaded, name, files)
    core = open_engine(
        loaded.runtime,
        settings,
        tokenizer=loaded.tokenizer,
        adapters=adapters,
        guesses=serve_guesses.source(args),
    )
    model = ServedModel(
        name=name,
        tokenizer=loaded.tokenizer,
        context_tokens=loaded.runtime.config.max_context_tokens,
        template=read_chat_template(loaded.folder),
        created=int(time.time()),
    )
    console.say(f"{loaded.folder}, {loaded.runtime.description} ({loaded.reason})")
    console.say(f"prefix cache: {reuse(settings.cache.max_bytes, core.state_bytes)}")
    serve_disk_cache.open_disk_cache(args, loaded, core, files)
    if core.guessing is not None:
        console.say(core.guessing.description)
    if model.template is None:
        console.say("no chat template in the model folder: /v1/completions only")
    return serve(
        core,
        model,
        reader=reader_of(loaded.runtime),
        host=args.host,
        port=args.port,
        drain_seconds=args.drain_seconds,
        say=console.say,
        adapters=adapters,
        guard=guard,
        drain_delay_seconds=args.drain_delay_seconds,
        hindrances=[files.reason_changed],
    )


def reuse(max_bytes: int, state_bytes: int) -> str:
    """What the cache can hold, in words."""
    if not max_bytes:
        return "off (--prefix-cache-bytes 0), every prompt is read whole"
    count = max_bytes // max(state_bytes, 1)
    return f"{format_bytes(max_bytes)}, about {count:,} states of {format_bytes(state_bytes)} and their keys and values"
