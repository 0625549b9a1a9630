"""`mamba-slm COMMAND …`: the table of commands, what goes wrong, and the exit codes. Imports no command before it runs.

A command is a module `mamba_slm.cli.NAME` with

    configure(parser) -> None     adds its arguments, a description and an epilog of real examples
    run(args) -> int              does it, imports included, and returns the exit code

Every parser, those of subcommands included, is a `mamba_slm.cli.parser.Parser`: `--debug`, `--quiet` and `--offline`
are already there. `args.json` is always present; a command that prints JSON adds the flag `--json` itself.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType

from mamba_slm import __version__
from mamba_slm.cli import console
from mamba_slm.cli.parser import GLOBAL_FLAGS, Parser, with_dashes
from mamba_slm.core.deprecation import plain_format
from mamba_slm.core.errors import MambaSlmError, OutOfMemoryError, UnknownNameError
from mamba_slm.core.garbage import uncollected
from mamba_slm.core.threads import spin_briefly

COMMANDS = {
    "quickstart": ("mamba_slm.cli.quickstart", "from text to a small model that talks, in minutes, on this machine"),
    "doctor": ("mamba_slm.cli.doctor", "what this machine has, what is missing, and how to mend it"),
    "models": ("mamba_slm.cli.models", "the sizes: list, describe, estimate memory, time and cost"),
    "data": ("mamba_slm.cli.data", "text to token shards: tokenize, train-tokenizer, inspect"),
    "train": ("mamba_slm.cli.train", "pretrain a model; resumes where it stopped"),
    "finetune": ("mamba_slm.cli.finetune", "teach a model from examples: LoRA, QLoRA or all weights"),
    "align": ("mamba_slm.cli.align", "train on what people prefer, or on rewards: DPO, KTO, GRPO and others"),
    "prefs": ("mamba_slm.cli.prefs", "collect preferences: which of two answers is better, asked blindly"),
    "convert": ("mamba_slm.cli.convert", "turn a Llama into a hybrid, and let it learn from the Llama on text"),
    "adapters": ("mamba_slm.cli.adapters", "adapters: list them, combine several, merge them into a model"),
    "extend": ("mamba_slm.cli.extend", "make a trained model for a longer context, and measure it by position"),
    "probe": ("mamba_slm.cli.probe", "does a model find again what it read long ago? needle and associative recall"),
    "generate": ("mamba_slm.cli.generate", "continue a prompt with a trained model"),
    "chat": ("mamba_slm.cli.chat", "talk with a trained model in the terminal"),
    "serve": ("mamba_slm.cli.serve", "a model behind OpenAI's HTTP API: many requests at once, prompts read once"),
    "api-keys": ("mamba_slm.cli.api_keys", "who may use a server: make, list and remove API keys"),
    "eval": ("mamba_slm.cli.eval", "scores on benchmarks, with the questions of lm-evaluation-harness"),
    "score": ("mamba_slm.cli.score", "BLEU, chrF, ROUGE and variety of generated texts"),
    "quantize": ("mamba_slm.cli.quantize", "store a model in 8 or 4 bits, and measure what that costs"),
    "export": ("mamba_slm.cli.export", "write a model in another format, verified: hf, gguf, onnx"),
    "import": ("mamba_slm.cli.import_model", "read a GraniteMoeHybrid of Hugging Face into a model folder of ours"),
    "verify": ("mamba_slm.cli.verify", "compare two models in any formats: logits, layers, tokenizers"),
    "bench": ("mamba_slm.cli.bench", "speed and memory of a model here, beside transformers; a server under load"),
    "runs": ("mamba_slm.cli.runs", "list, show and compare runs"),
    "report": ("mamba_slm.cli.report", "the report card of a run, as a page and as Markdown"),
    "dashboard": ("mamba_slm.cli.dashboard", "the runs in a browser: watch, compare, start and stop them, and chat"),
}
"""Command -> (module, one line of help)."""

WAITED_FOR = ("generate", "chat")
"""Commands that need torch in any case, and whose first answer somebody waits for."""

EXAMPLES = """\
examples:
  mamba-slm quickstart
  mamba-slm models list
  mamba-slm models estimate 1.3B --gpus 8 --gpu "H100 80GB" --tokens 30B

exit codes: 0 ok, 1 failed, 2 usage, 3 this machine cannot, 4 out of memory, 5 data, 6 a check failed, 130 interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Errors go to stderr as `error:` and `hint:`."""
    spin_briefly()
    warnings.formatwarning = plain_format(warnings.formatwarning)
    words = with_dashes(sys.argv[1:] if argv is None else list(argv))
    debug = "--debug" in words
    try:
        return run_command(words)
    except SystemExit as finished:  # argparse ends --help and --version this way
        return finished.code if isinstance(finished.code, int) else 0
    except BrokenPipeError:  # the reader has seen enough, as in `mamba-slm runs list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        console.print_error("interrupted")
        return 130
    except Exception as error:
        if debug:
            import traceback

            traceback.print_exc()
        known = as_known_error(error)
        if known is None:
            console.print_error(
                f"internal error: {type(error).__name__}: {error}",
                hint="this is a bug in mamba-slm; run it again with --debug for the traceback and report it",
            )
            return 1
        console.print_error(known.message, hint=known.hint)
        return known.exit_code


def run_command(words: list[str]) -> int:
    """Find the command among the words, let it parse the rest, and run it."""
    position = next((i for i, word in enumerate(words) if not word.startswith("-")), len(words))
    leading, rest = words[:position], words[position:]
    root = root_parser()
    root.parse_args(leading)
    if not rest:
        root.print_help(sys.stderr)
        return 2
    module, parser = load_command(rest[0])
    args = parser.parse_args([*leading, *rest[1:]])
    args.words = words  # for a command that starts itself again
    for flag in [*GLOBAL_FLAGS, "--json"]:
        if not hasattr(args, flag[2:]):
            setattr(args, flag[2:], False)
    if rest[0] in WAITED_FOR and "torch" not in sys.modules:
        with uncollected():
            importlib.import_module("torch")
    return start(module, args)


def start(module: ModuleType, args: argparse.Namespace) -> int:
    """Apply the global flags and run the parsed command."""
    console.configure(quiet=args.quiet)
    if args.offline or os.environ.get("MAMBA_SLM_OFFLINE") == "1":
        from mamba_slm.core.network import forbid_network

        forbid_network()
    code = module.run(args)
    sys.stdout.flush()
    return code


def root_parser() -> Parser:
    """The parser of `mamba-slm` itself: global flags, and help that lists the commands."""
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:<{width}}  {help_line}" for name, (_, help_line) in COMMANDS.items())
    parser = Parser(
        prog="mamba-slm",
        usage="mamba-slm [--version] COMMAND [options]",
        description=f"From raw text to a hybrid Mamba-Transformer language model.\n\ncommands:\n{listed}\n\n"
        "`mamba-slm COMMAND --help` explains one of them.",
        epilog=EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"mamba-slm {__version__}", help="show the version")
    return parser


def load_command(name: str) -> tuple[ModuleType, Parser]:
    """Import the module of a command and build its parser; a subcommand without an epilog shows the command's examples.

    Raises:
        UnknownNameError: no such command; names the nearest.
    """
    if name not in COMMANDS:
        raise UnknownNameError("command", name, COMMANDS)
    module_name, help_line = COMMANDS[name]
    module = importlib.import_module(module_name)
    parser = Parser(prog=f"mamba-slm {name}", description=f"{help_line[0].upper()}{help_line[1:]}.")
    module.configure(parser)
    for _, inner in parser.subcommands():
        lines = [line for line in (parser.epilog or "").splitlines() if f"{line} ".startswith(f"  {inner.prog} ")]
        inner.epilog = inner.epilog or ("examples:\n" + "\n".join(lines) if lines else None)
    return module, parser


def as_known_error(error: Exception) -> MambaSlmError | None:
    """The error as one of ours: running out of memory (also torch's) becomes `OutOfMemoryError`; None for a bug."""
    if isinstance(error, MambaSlmError):
        return error
    from mamba_slm.training.out_of_memory import is_out_of_memory

    if not is_out_of_memory(error):
        return None
    first_line = (str(error).strip() or "the system refused the allocation").splitlines()[0]
    return OutOfMemoryError(
        f"out of memory: {first_line}",
        hint="use a smaller model, --micro-batch-rows 1, a shorter --context-tokens or --gradient-checkpointing; "
        "`mamba-slm models estimate NAME` shows what takes the memory",
    )


if __name__ == "__main__":
    sys.exit(main())
