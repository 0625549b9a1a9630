"""`mamba-slm generate`: continue a prompt."""

from __future__ import annotations

import argparse
import sys

from mamba_slm.cli import console
from mamba_slm.core.units import parse_count, three_digits

EPILOG = """\
MODEL is a run directory, one of its checkpoints, a model folder, or a folder of `mamba-slm export onnx`, which ONNX
Runtime runs. The continuation goes to stdout, without the prompt unless --echo is given; everything else to stderr.

examples:
  mamba-slm generate runs/quickstart "def main():"
  cat notes.txt | mamba-slm generate runs/quickstart - --max-new-tokens 500 --temperature 0
  mamba-slm generate runs/quickstart "import " -n 3 --seed 7 --stop $'\\n\\n' --json
  mamba-slm generate quickstart-onnx "def main():" --runtime onnx --threads 2
"""


def add_sampling_flags(parser: argparse.ArgumentParser, *, max_new_tokens: int) -> None:
    """The flags that `generate` and `chat` share."""
    group = parser.add_argument_group("sampling")
    group.add_argument(
        "--max-new-tokens", type=parse_count, default=max_new_tokens, metavar="N", help=f"default {max_new_tokens}"
    )
    group.add_argument(
        "--temperature", type=float, default=0.8, metavar="T", help="0 is greedy, 1 neutral, default 0.8"
    )
    group.add_argument("--top-k", type=parse_count, metavar="K", help="draw among the K most likely tokens")
    group.add_argument(
        "--top-p", type=float, default=0.95, metavar="P", help="draw among the fewest tokens of mass P, default 0.95"
    )
    group.add_argument("--min-p", type=float, metavar="P", help="leave out tokens below P times the most likely one")
    group.add_argument("--repetition-penalty", type=float, metavar="R", help="above 1: seen tokens become less likely")
    group.add_argument("--seed", type=parse_count, metavar="N", help="of the draws; default: a new one, printed")
    group.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end at this text; may be given several times"
    )
    add_runtime_flags(parser)


def add_runtime_flags(parser: argparse.ArgumentParser) -> None:
    """What runs the model, and where."""
    group = parser.add_argument_group("runtime")
    group.add_argument(
        "--runtime",
        choices=("auto", "torch", "compiled", "onnx"),
        default="auto",
        help="auto: onnx for a folder of mamba-slm export onnx, else compiled on a CPU where there is a C++ compiler, "
        "else torch; compiled: torch with a decoding step in C++, compiled once for a machine in seconds, several "
        "times as fast",
    )
    group.add_argument(
        "--weights",
        choices=("float32", "bfloat16", "int8", "int4", "mixed"),
        help="how PyTorch holds the matrices, default float32; int8 and int4 are rounded while loading and read by "
        "--runtime compiled at the speed of memory; mixed: int4, but int8 where 4 bits cost most",
    )
    group.add_argument("--device", default="auto", metavar="NAME", help="of PyTorch: auto, cpu or cuda[:i]")
    group.add_argument(
        "--provider", metavar="NAME", help="of ONNX Runtime: cpu (default), cuda or another that it was built with"
    )
    group.add_argument(
        "--threads", type=parse_count, metavar="N", help="CPU threads, default: as many as PyTorch takes"
    )


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm generate`."""
    parser.epilog = EPILOG
    parser.add_argument(
        "model", metavar="MODEL", help="run directory, checkpoint, model folder or exported ONNX folder"
    )
    parser.add_argument(
        "prompt", metavar="PROMPT", nargs="?", default="", help="text to continue, or - for stdin; none: a new document"
    )
    parser.add_argument("-n", "--samples", type=parse_count, default=1, metavar="N", help="continuations, default 1")
    add_sampling_flags(parser, max_new_tokens=200)
    parser.add_argument("--echo", action="store_true", help="print the prompt, too")
    parser.add_argument("--no-stream", action="store_true", help="print the text when it is complete")
    parser.add_argument("--json", action="store_true", help="one JSON document with texts, counts and speeds")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from mamba_slm.generation.generate import stream_tokens
    from mamba_slm.generation.loading import load
    from mamba_slm.generation.text import collect_texts, prompt_tokens, stream_text

    sampler, seed = sampler_of(args), seed_of(args)
    prompt = read_stdin() if args.prompt == "-" else args.prompt
    loaded = load(args.model, runtime=args.runtime, settings=runtime_settings(args))
    console.say(f"{loaded.folder}, {loaded.runtime.description} ({loaded.reason}), seed {seed}")

    stream = stream_tokens(
        loaded.runtime,
        [prompt_tokens(loaded.tokenizer, prompt)],
        max_new_tokens=args.max_new_tokens,
        sampler=sampler,
        eos_id=loaded.tokenizer.eos_id,
        seed=seed,
        samples_per_prompt=args.samples,
    )
    events = stream_text(stream, loaded.tokenizer, stops=args.stop)
    shown_prompt = prompt if args.echo else ""
    if args.samples == 1 and not args.no_stream and not args.json:
        events = shown_while_made(events, shown_prompt)
        completions = collect_texts(events, num_rows=1)
    else:
        completions = collect_texts(events, num_rows=args.samples)
        if not args.json:
            print_all([shown_prompt + completion.text for completion in completions])
    if args.json:
        console.print_json(as_json(args, loaded, prompt, seed, completions, stream.timing))
    console.say(speed_line(stream.timing))
    console.say("ended by: " + ", ".join(ENDINGS[completion.finish_reason] for completion in completions))
    return 0


ENDINGS = {
    "eos": "end of document",
    "stop_token": "end of turn",
    "stop_string": "stop text",
    "length": "--max-new-tokens",
    "context": "the model's context is full",
}
"""What a finish reason means to a reader."""


def sampler_of(args: argparse.Namespace):
    """The sampler that the flags describe."""
    from mamba_slm.generation.sampling import Sampler

    return Sampler.from_settings(
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        min_p=args.min_p,
        repetition_penalty=args.repetition_penalty,
    )


def runtime_settings(args: argparse.Namespace):
    """How the flags want the model to be run."""
    from mamba_slm.generation.runtime import RuntimeSettings

    return RuntimeSettings(
        device=args.device,
        provider=args.provider,
        threads=args.threads,
        weights=args.weights,
        kernels=True,
        say=console.say,
    )


def seed_of(args: argparse.Namespace) -> int:
    """The seed given, or a new one, small enough to type again."""
    import secrets

    return secrets.randbelow(2**31) if args.seed is None else args.seed


def read_stdin() -> str:
    """All of stdin.

    Raises:
        DataError: it is not UTF-8.
    """
    from mamba_slm.core.errors import DataError

    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"the prompt on stdin is not UTF-8: {error}", hint="convert it with iconv -t UTF-8") from error


def shown_while_made(events, before: str):
    """Write the text of each event to stdout as it passes; end with a newline, also when interrupted."""
    sys.stdout.write(before)
    try:
        for event in events:
            sys.stdout.write(event.text)
            sys.stdout.flush()
            yield event
    finally:
        sys.stdout.write("\n")
        sys.stdout.flush()


def print_all(texts: list[str]) -> None:
    """Every text on stdout; several are numbered."""
    for number, text in enumerate(texts, start=1):
        if len(texts) > 1:
            print(f"=== {number} of {len(texts)}")
        print(text)


def speed_line(timing) -> str:
    """Prefill and decode speed."""
    return (
        f"prefill {timing.prefill_tokens:,} tokens, {three_digits(timing.prefill_tokens_per_second)} tok/s; "
        f"decode {timing.decode_tokens:,} tokens, {three_digits(timing.decode_tokens_per_second)} tok/s"
    )


def as_json(args: argparse.Namespace, loaded, prompt: str, seed: int, completions, timing) -> dict:
    """What `--json` prints."""
    settings = ("max_new_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "stop", "device")
    return {
        "model": str(loaded.folder),
        "runtime": loaded.runtime.description,
        "prompt": prompt,
        "seed": seed,
        "settings": {name: getattr(args, name) for name in settings},
        "completions": [
            {"text": c.text, "num_tokens": c.num_tokens, "finish_reason": c.finish_reason} for c in completions
        ],
        "prompt_tokens": timing.prefill_tokens,
        "prefill_seconds": timing.prefill_seconds,
        "decode_tokens": timing.decode_tokens,
        "decode_seconds": timing.decode_seconds,
    }
