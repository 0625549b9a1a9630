"""docs/reference/conformance.md: rendered from measurements, read back by the test that keeps it current."""

from __future__ import annotations

import math
import re
from pathlib import Path as FilePath

from conformance.exports import EXPORTS
from conformance.measure import Measurement
from conformance.models import ALL_CONFIGS, CONFIGS, LENGTHS
from conformance.oracles import ORACLES, TRANSFORMERS_VERSION
from conformance.paths import OUR_PATHS
from conformance.quantized import QUANTIZED
from conformance.registry import PATHS
from tolerances import tolerance_of

TABLE_FILE = FilePath(__file__).parents[2] / "docs" / "reference" / "conformance.md"
COMMAND = "python -m pytest tests/conformance --write-table"


def rounded_up(error: float) -> str:
    """The next of 1, 2, 5 × 10^k: coarse, so that another processor's rounding does not change the table.

    >>> rounded_up(3.1e-7), rounded_up(5e-3), rounded_up(0.0)
    ('5e-07', '5e-03', '0')
    """
    if error == 0:
        return "0"
    exponent = math.floor(math.log10(error))
    for digit in (1, 2, 5, 10):
        bound = float(f"{digit}e{exponent}")
        if error <= bound:
            return f"{bound:.0e}"
    raise AssertionError(f"{error} lies above 10^{exponent + 1}")


def row(name: str, measured: Measurement) -> str:
    """One line of the table."""
    path = PATHS[name]
    tolerance = tolerance_of(path.row, path.dtype)
    kind = re.sub(r"^sublayers\.\d+\.", "", measured.worst_parameter)
    gradients = f"{rounded_up(measured.gradients)} (`{kind}`)" if path.gradients else "none"
    lengths = ", ".join(map(str, LENGTHS))
    if path.gradient_lengths != LENGTHS:
        lengths += f"; gradients up to {max(path.gradient_lengths)}"
    cells = (name, path.what, lengths, rounded_up(measured.outputs), gradients, *allowed(name))
    assert measured.outputs <= tolerance.values
    assert measured.gradients <= tolerance.gradients
    return "| " + " | ".join(cells) + " |"


def allowed(name: str) -> tuple[str, str]:
    """The two tolerance cells."""
    tolerance = tolerance_of(PATHS[name].row, PATHS[name].dtype)
    return f"{tolerance.values:.0e}", f"{tolerance.gradients:.0e}" if PATHS[name].gradients else "none"


COLUMNS = """\
| path | what is compared | lengths | outputs | gradients | tolerance, outputs | tolerance, gradients |
|---|---|---|---|---|---|---|
"""


def rendered(measurements: dict[str, Measurement]) -> str:
    """The whole page."""
    patterns = " and ".join(f"`{config.pattern}` ({layout})" for layout, config in CONFIGS.items())
    ours = "\n".join(row(name, measurements[name]) for name in OUR_PATHS | EXPORTS)
    few_bits = "\n".join(row(name, measurements[name]) for name in QUANTIZED)
    theirs = "\n".join(row(name, measurements[name]) for name in ORACLES)
    return f"""# Conformance: the same function on every path

<!-- Written by `{COMMAND}`; do not edit. -->

Every path below computes the function of one model and is compared with the naive recurrence: float32, each sequence
alone, one token of the state-space recurrence after another. The models are two small hybrids with every kind of
sublayer, {patterns}, with random weights; the sequences are random tokens. The worse of the two is shown.

The error of a tensor is its largest absolute difference from the naive recurrence, divided by the largest magnitude
there, so 1e-06 means six digits. *Outputs* are the logits of all positions. *Gradients* are those of a random
projection of all logits, for every parameter; the kind of the one with the largest error is named. Measured on a CPU
with one thread, and rounded up to 1, 2 or 5 in the last digit. A test fails where a path exceeds its tolerance.

Not in the table because it is exact: the gradient of one packed document with respect to the embeddings of another is
zero to the last bit (`tests/conformance/test_isolation.py`), and a state that was restored gives the same logits to the
last bit (`tests/model/test_state.py`).

{COLUMNS}{ours}

## Quantized weights

The same comparison with matrices in 8 and 4 bits (`mixed`: 4 bits, but 8 in `in_proj`, embedding and head). The
definition is the naive recurrence in float32 on the values that the stored numbers stand for, so these rows say nothing
about what rounding costs, and everything about whether each path computes with the same numbers. ONNX Runtime and
llama.cpp round what they multiply numbers of few bits with to 8 bits, too: ONNX Runtime is asked not to, and shown as
it runs in a row of its own.

{COLUMNS}{few_bits}

## Oracles: code that nobody here wrote

The same comparison, with the models of {ORACLE} on our parameters under their names. They run on transformers' own
PyTorch code in float32, with eager attention unless the row says otherwise. The gradients are those of our parameters,
through their code and, where it reads in pieces, through their cache. The worst of the models is shown:

- `GraniteMoeHybridForCausalLM` without experts on {patterns_of("GraniteMoeHybrid")};
  the last for the first row alone;
- `Mamba2Mixer`, in the place of our Mamba-2 mixer, on {patterns_of("Mamba2Mixer")};
- `LlamaForCausalLM` on {patterns_of("Llama")}.

{COLUMNS}{theirs}

Beyond these rows, `tests/conformance/test_oracles.py` compares: our packed documents with Granite's logits and
gradients of each document alone; a Granite with weights of its own, imported here, by logits and gradients;
export after import, which gives back every bit; our files, read by `from_pretrained`, and its files, read here; linear,
NTK and YaRN scaling; the mixer alone with the gradient of its input, and its state after every step. Tensors that
change places are seen.

What {ORACLE} itself does not compute, each with its test there:

- **Packed documents.** Without its CUDA kernels it refuses document ids (`seq_idx`), and with positions alone a
  document reads the state and the keys of those before it. So packing is compared with each document alone.
- **Decoding after padding on the right.** Its convolution goes on from the padding. A batch that decodes is padded on
  the left.
- **A limit on dt.** `time_step_limit` acts on a prompt but not on a token that is decoded, so a model with one has two
  functions. We write a limit that never acts, and refuse to import one that can.
"""


ORACLE = f"transformers {TRANSFORMERS_VERSION}"


def patterns_of(name: str) -> str:
    """The models an oracle is compared on, in words."""
    words = []
    for config in (ALL_CONFIGS[layout] for layout in ORACLES[name].layouts):
        tied = "tied" if config.tie_embeddings else "untied"
        groups = f", {config.num_groups} groups" if config.num_groups > 1 else ""
        words.append(f"`{config.pattern}` ({config.position}, {tied}{groups})")
    return ", ".join(words)


def rows_of(page: str) -> dict[str, list[str]]:
    """Cells behind the name, by path, as the committed page has them."""
    lines = [line for line in page.splitlines() if re.match(r"\| (?!path )", line)]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {first: rest for first, *rest in cells}
