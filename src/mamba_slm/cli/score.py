"""`mamba-slm score`: BLEU, chrF, ROUGE and variety of generated texts."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from mamba_slm.cli import console
from mamba_slm.core.errors import DataError

EPILOG = """\
FILE is JSON Lines as `mamba-slm generate --out` writes them: a field "text", and where there is something to compare it
with a field "reference", a text or a list of texts, which `generate --jsonl` passes on from the prompts. BLEU, chrF and
ROUGE need references and the extra scores; how varied the texts are needs nothing.

examples:
  mamba-slm generate runs/quickstart --jsonl prompts.jsonl --out texts.jsonl
  mamba-slm score texts.jsonl
  mamba-slm score texts.jsonl --reference-field answer --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm score`."""
    parser.epilog = EPILOG
    parser.add_argument("file", metavar="FILE", help="JSON Lines with the texts, - for stdin")
    parser.add_argument("--text-field", default="text", metavar="NAME", help="of the generated text, default text")
    parser.add_argument(
        "--reference-field", default="reference", metavar="NAME", help="of its reference or list of them"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from mamba_slm.evaluation.generations import reference_scores, variety

    texts, references = read_texts(args)
    varied = variety(texts)
    scores = reference_scores(texts, references) if any(references) else None
    if args.json:
        found = {"texts": len(texts), "variety": asdict(varied)}
        console.print_json(found if scores is None else {**found, "references": asdict(scores)})
        return 0
    rows = [["texts", f"{len(texts):,}", ""], ["words per text", f"{varied.mean_words:.1f}", ""]]
    if scores is not None:
        rows += [["BLEU", f"{scores.bleu:.2f}", "0 to 100, " + scores.bleu_signature]]
        rows += [["chrF2", f"{scores.chrf:.2f}", "0 to 100"]]
        rows += [[kind, f"{value:.4f}", "0 to 1, F1"] for kind, value in scores.rouge.items()]
    else:
        console.say(f'no line has a field "{args.reference_field}", so nothing was compared with references')
    rows += [[f"distinct-{n}", f"{share:.4f}", "different n-grams of all"] for n, share in varied.distinct.items()]
    rows += [
        [f"repetition-{n}", f"{share:.4f}", "of a text in itself"] for n, share in varied.repetition.items() if n == 4
    ]
    print(console.table(["measure", "value", "meaning"], rows, right=["value"]))
    return 0


def read_texts(args: argparse.Namespace) -> tuple[list[str], list[list[str]]]:
    """Texts, and the references of each.

    Raises:
        DataError: the file cannot be read, or a line has no text or another kind of reference.
    """
    name = "stdin" if args.file == "-" else args.file
    try:
        data = sys.stdin.buffer.read() if args.file == "-" else Path(args.file).read_bytes()
        lines = data.decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{name} cannot be read: {error}") from error
    texts: list[str] = []
    references: list[list[str]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"line {number} of {name}"
        try:
            fields = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{where} is not JSON: {error}") from error
        text = fields.get(args.text_field) if isinstance(fields, dict) else None
        if not isinstance(text, str):
            raise DataError(f'{where} has no text in a field "{args.text_field}"', hint="name it with --text-field")
        given = fields.get(args.reference_field, [])
        mine = [given] if isinstance(given, str) else given
        if not isinstance(mine, list) or not all(isinstance(one, str) for one in mine):
            raise DataError(f'the field "{args.reference_field}" of {where} is neither a text nor a list of texts')
        texts.append(text)
        references.append(mine)
    if not texts:
        raise DataError(f"{name} holds no texts")
    return texts, references
