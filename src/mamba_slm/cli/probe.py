"""`mamba-slm probe`: does a model find again what it read long ago?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mamba_slm.cli import console
from mamba_slm.cli.runtime_flags import add_runtime_flags, runtime_settings
from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.core.units import parse_count

if TYPE_CHECKING:
    from mamba_slm.evaluation.long_context.probes import Found

EPILOG = """\
needle: a pass key stands at some depth of a long text; at the end the right key is chosen among ten by probability.
recall: pairs of arbitrary tokens, then the keys again: the right value must be the most likely of all values.
A model that learned neither scores near chance, which is printed beside every result.

examples:
  mamba-slm probe runs/quickstart --lengths 128,256,512
  mamba-slm probe runs/long --tasks needle --lengths 1Ki,4Ki,16Ki --depths 0,0.5,1 --text book.txt --out probe.json
  mamba-slm probe runs/quickstart --lengths 512,2048 --context-tokens 2048 --rope-scaling ntk
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm probe`."""
    parser.epilog = EPILOG
    parser.add_argument(
        "model", metavar="MODEL", help="run directory, checkpoint, model folder or exported ONNX folder"
    )
    parser.add_argument("--tasks", default="needle,recall", metavar="LIST", help="default needle,recall")
    parser.add_argument("--lengths", metavar="LIST", help="tokens, default: an eighth, a half and all of the context")
    parser.add_argument("--depths", default="0,0.25,0.5,0.75,1", metavar="LIST", help="of the needle, 0 to 1")
    parser.add_argument("--times", type=parse_count, default=20, metavar="N", help="per length and depth, default 20")
    parser.add_argument("--text", metavar="FILE", help="what the needle is hidden in; default: a few plain sentences")
    parser.add_argument("--seed", type=parse_count, default=0, metavar="N", help="of the keys")
    parser.add_argument("--out", metavar="FILE", help="write the results there as JSON, and the plot beside as .svg")
    parser.add_argument("--json", action="store_true", help="one object on stdout")
    add_runtime_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from mamba_slm.core.files import write_json_atomic, write_text_atomic
    from mamba_slm.evaluation.long_context.probes import FILLER, TASKS, probe
    from mamba_slm.generation.loading import load

    tasks = args.tasks.split(",")
    if unknown := [task for task in tasks if task not in TASKS]:
        raise ConfigError(f"unknown task {unknown[0]!r}", hint=f"--tasks {','.join(TASKS)}")
    depths = numbers_of(args.depths, "depths")
    if not all(0 <= depth <= 1 for depth in depths):
        raise ConfigError(f"depths lie between 0 and 1, got {args.depths}", hint="--depths 0,0.5,1")
    filler = FILLER if args.text is None else text_of(Path(args.text))
    loaded = load(args.model, runtime=args.runtime, settings=runtime_settings(args))
    context = loaded.runtime.config.max_context_tokens
    lengths = [parse_count(word) for word in args.lengths.split(",")] if args.lengths else default_lengths(context)
    console.say(f"{loaded.folder}, {loaded.runtime.description} ({loaded.reason}), context {context:,} tokens")
    found = probe(
        loaded.runtime, loaded.tokenizer, tasks=tasks, lengths=lengths, depths=depths, times=args.times,
        seed=args.seed, filler=filler, say=console.say,
    )  # fmt: skip
    document = {"format_version": 1, "model": str(loaded.folder), "results": [one.to_dict() for one in found]}
    if args.out:
        path = Path(args.out)
        write_json_atomic(path, document)
        write_text_atomic(path.with_suffix(".svg"), drawn(found))
        console.say(f"wrote {path} and {path.with_suffix('.svg')}")
    if args.json:
        console.print_json(document)
    else:
        rows = [
            [one.task, f"{one.tokens:,}", "" if one.depth is None else f"{one.depth:g}", f"{one.share:.0%}",
             f"{one.right} of {one.asked}", f"{one.chance:.1%}"]
            for one in found
        ]  # fmt: skip
        print(console.table(["task", "tokens", "depth", "found", "", "chance"], rows, right=["tokens", "found"]))
    return 0


def numbers_of(text: str, name: str) -> list[float]:
    """Numbers between commas."""
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise ConfigError(f"{name} {text!r} are no numbers", hint=f"--{name} 0,0.5,1") from None


def default_lengths(context_tokens: int) -> list[int]:
    """An eighth, a half and all of the context.

    >>> default_lengths(512)
    [64, 256, 512]
    """
    return [context_tokens // 8, context_tokens // 2, context_tokens]


def text_of(path: Path) -> str:
    """A text to hide the needle in."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}", hint="--text FILE of UTF-8 text") from None
    if not text.strip():
        raise DataError(f"{path} is empty", hint="--text FILE of UTF-8 text")
    return text


def drawn(found: list[Found]) -> str:
    """Share found against length, a curve per task and depth."""
    from mamba_slm.evaluation.long_context.picture import picture

    curves: dict[str, list[tuple[float, float]]] = {}
    for one in found:
        name = one.task if one.depth is None else f"{one.task} at depth {one.depth:g}"
        curves.setdefault(name, []).append((one.tokens, one.share))
    return picture(curves, title="found again", x_label="tokens read", y_label="share", y_unit="share", from_zero=True)
