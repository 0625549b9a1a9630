"""`mamba-slm verify`: whether two models in any formats compute the same."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mamba_slm.cli import console
from mamba_slm.core.units import parse_count

if TYPE_CHECKING:
    from mamba_slm.export.compare import Comparison
    from mamba_slm.export.verify import Verification

EPILOG = """\
A and B are each a run, checkpoint or model folder of ours, a folder of Hugging Face, a .gguf file, an ONNX folder, or a
hub id such as OWNER/NAME whose files are in the local cache; the network is not used. A is the reference. Logits are
compared on random tokens and, where a tokenizer is there, on a text; two tokenizers are compared on the text, too.

When a logit is off by more than --tolerance, the residual stream is compared layer by layer where both formats show it,
and the exit code is 6.

examples:
  mamba-slm verify runs/quickstart exported/quickstart
  mamba-slm verify exported/quickstart quickstart-q8.gguf --tolerance 0.5 --text notes.txt
  mamba-slm verify runs/quickstart exported/quickstart --tokens 256 --json
"""
LAYERS_SHOWN = 200


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm verify`."""
    from mamba_slm.cli.export_hf import positive_number

    parser.epilog = EPILOG
    parser.add_argument("a", metavar="A", help="the reference: a model in any format")
    parser.add_argument("b", metavar="B", help="the other one")
    parser.add_argument(
        "--tokens",
        type=parse_count,
        default=64,
        metavar="N",
        help="length of a sequence, default 64; the context ends it",
    )
    parser.add_argument("--text", type=Path, metavar="FILE", help="UTF-8 text to compare on; default: half a page")
    parser.add_argument(
        "--tolerance",
        type=positive_number,
        default=1e-4,
        metavar="X",
        help="largest difference of a logit, default 1e-4",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document with everything measured")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from mamba_slm.core.errors import UsageError
    from mamba_slm.export.compare import finite
    from mamba_slm.export.probes import TEXT
    from mamba_slm.export.trace import open_runner
    from mamba_slm.export.verify import require_verified, verify_runners

    if args.tokens < 2:
        raise UsageError(f"--tokens must be at least 2, got {args.tokens}")
    text = TEXT if args.text is None else read_text(args.text)
    a = open_runner(args.a)
    console.say(f"A: {args.a}, {a.description}")
    b = open_runner(args.b)
    console.say(f"B: {args.b}, {b.description}")
    found = verify_runners(a, b, num_tokens=args.tokens, text=text, tolerance=args.tolerance)
    if args.json:
        console.print_json({"a": args.a, "b": args.b, "equal": not found.problems, **finite(asdict(found))})
    else:
        print_tables(found)
    require_verified(found)
    return 0


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        DataError: it cannot be read, is not UTF-8, or is empty.
    """
    from mamba_slm.core.errors import DataError

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text: {error}") from error
    if not text.strip():
        raise DataError(f"{path} has no text")
    return text


def print_tables(found: Verification) -> None:
    """What was measured; layers where the logits differ."""
    header = ["", "tokens", "max logit error", "argmax agreement", "KL nats", "perplexity A", "perplexity B"]
    rows = [[name, *numbers(part)] for name, part in found.parts.items()]
    print(console.table(header, rows, right=header[1:]))
    if found.tokenizers is not None:
        print(tokenizers_in_words(found))
    drifting = next((part for part in found.parts.values() if part.max_logit_error > found.tolerance), None)
    if drifting is None:
        return
    if not drifting.layers:
        print("\nlayers: at least one of the two formats does not show them")
        return
    header = ["residual stream after", "max error", "relative"]
    shown = [
        [layer.name, f"{layer.max_error:.1e}", f"{layer.relative_error:.1e}"]
        for layer in drifting.layers[:LAYERS_SHOWN]
    ]
    print(f"\n{console.table(header, shown, right=header[1:])}\nfirst layer that drifts: {drifting.first_drift}")


def numbers(part: Comparison) -> list[str]:
    """A row of the table."""
    return [
        f"{part.num_tokens:,}", f"{part.max_logit_error:.1e}", f"{part.argmax_agreement:.4f}", f"{part.mean_kl:.1e}",
        f"{part.perplexity_a:.4g}", f"{part.perplexity_b:.4g}",
    ]  # fmt: skip


def tokenizers_in_words(found: Verification) -> str:
    """Whether the tokenizers agree, and where they part."""
    tokens = found.tokenizers
    assert tokens is not None
    if tokens.equal:
        return f"tokenizers: equal on {tokens.characters:,} characters"
    return (
        f"tokenizers: differ from token {tokens.first_difference} on: A {list(tokens.tokens_a)}, "
        f"B {list(tokens.tokens_b)}"
    )
