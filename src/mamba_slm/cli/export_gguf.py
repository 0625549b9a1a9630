"""`mamba-slm export gguf`: one file for llama.cpp, Ollama and LM Studio."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mamba_slm.cli import console
from mamba_slm.core.errors import DataError
from mamba_slm.core.units import format_bytes

if TYPE_CHECKING:
    from mamba_slm.export.compare import Comparison
    from mamba_slm.export.gguf.export import Check, GgufExport

TYPES = ("F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_0", "Q4_1", "Q4_K_M", "Q4_K", "Q4_0")
DEFAULT_TYPE = "Q8_0"
SHOWN_FALLBACKS = 3

EPILOG = """\
The file is read back and compared with the model: every tensor, the tokens of a difficult text, the logits. Where
llama-cpp-python is installed, llama.cpp itself runs it too. F32 must give the same logits (1e-4); the other types
must stay within what their rounding explains, and print how far they are away. A failed check exits 6 and leaves
nothing.

types, with the bits that a weight takes: F32 32, F16 and BF16 16, Q8_0 8.5, Q6_K 6.6, Q5_0 5.5, Q4_1 5, Q4_K and Q4_0
4.5; Q4_K_M is Q4_K with Q6_K for the head and half of the most sensitive matrices. Rows that are no multiple of 256
fall back from Q4_K to Q5_0 and from Q6_K to Q8_0. Norms, convolutions and the scan's parameters stay F32.

The numbers of a quantized model (mamba-slm quantize) are written as they are unless --type asks for another rounding:
int8 becomes Q8_0 and int4 Q4_0 to the last bit, int4 with zero points Q4_1. GGUF has no type for nf4 and fp4.

examples:
  mamba-slm export gguf runs/tiny --out tiny.gguf
  mamba-slm export gguf runs/tiny --out tiny-f32.gguf --type F32
  mamba-slm export gguf runs/tiny --out tiny-q4.gguf --type Q4_K_M --text held-out.txt --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm export gguf`."""
    parser.epilog = EPILOG
    parser.add_argument("model", metavar="MODEL", help="run directory, checkpoint or model folder, with its tokenizer")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.gguf", help="the file to write")
    parser.add_argument(
        "--type",
        choices=TYPES,
        metavar="TYPE",
        help=f"how matrices are stored: {', '.join(TYPES)}; default {DEFAULT_TYPE}, of a quantized model the type that "
        "holds its numbers. The rest stays F32",
    )
    parser.add_argument("--text", type=Path, metavar="FILE", help="also measure agreement and perplexity on this text")
    parser.add_argument(
        "--no-llama-cpp", action="store_true", help="do not run the file in llama.cpp, where it is installed"
    )
    parser.add_argument(
        "--pad-vocabulary", action="store_true", help="add tokens of zeros to a vocabulary that is no multiple of 8"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE.gguf and its Modelfile")
    parser.add_argument("--json", action="store_true", help="one object: paths, sizes and what was measured")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from mamba_slm.export.gguf.export import export_gguf
    from mamba_slm.export.source import open_source

    source = open_source(args.model)
    exported = export_gguf(
        source,
        args.out,
        file_type=args.type or (None if source.quantized else DEFAULT_TYPE),
        text=None if args.text is None else read_text(args.text),
        in_llama_cpp=False if args.no_llama_cpp else None,
        pad_vocabulary=args.pad_vocabulary,
        overwrite=args.overwrite,
    )
    for warning in exported.warnings:
        console.say(f"warning: {warning}")
    if args.json:
        console.print_json(exported.to_json())
    else:
        print_summary(exported)
    return 0


def read_text(path: Path) -> str:
    """The text in a file.

    Raises:
        DataError: it cannot be read as UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}", hint="give a UTF-8 text file") from error


def print_summary(exported: GgufExport) -> None:
    """What was written, and how near it is."""
    types = ", ".join(f"{count} {name}" for name, count in exported.tensors_by_type.items())
    print(f"wrote        {exported.file} ({format_bytes(exported.bytes)}; tensors: {types})")
    print(f"             {exported.modelfile}, for: ollama create NAME -f {exported.modelfile}")
    print(f"tokenizer    byte-level BPE, pre-tokenizer {exported.pre_tokenizer}")
    if exported.fallen_back:
        listed = [f"{name} {kind}" for name, kind in exported.fallen_back.items()]
        more = f" and {len(listed) - SHOWN_FALLBACKS} more" if len(listed) > SHOWN_FALLBACKS else ""
        print(f"fell back    {', '.join(listed[:SHOWN_FALLBACKS])}{more}: rows are no multiple of 256 or 32")
    if exported.rounded_again:
        name, error = max(exported.rounded_again.items(), key=lambda item: item[1])
        print(
            f"rounded      {len(exported.rounded_again)} matrices that were quantized already, not to the last bit as "
            f"stored: {name} by up to {error:.1e} of its largest value"
        )
    print_check("read back", exported.read_back)
    if exported.llama_cpp is None:
        print("llama.cpp    not run: with llama-cpp-python installed the file is checked in it, too")
    else:
        print_check("llama.cpp", exported.llama_cpp)


def print_check(label: str, check: Check) -> None:
    """What was measured in one runtime."""
    print(f"{label:<12} {in_words(check.probes)}, largest logit error {check.probes.max_logit_error:.1e}")
    if check.text is not None:
        change = f"perplexity {check.text.perplexity_a:.4g} -> {check.text.perplexity_b:.4g}"
        print(f"{'  on text':<12} {in_words(check.text)}, {change}")


def in_words(comparison: Comparison) -> str:
    """How near two models are."""
    return f"argmax agreement {comparison.argmax_agreement:.4f}, KL {comparison.mean_kl:.1e} nats"
