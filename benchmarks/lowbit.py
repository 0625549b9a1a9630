"""Products with matrices of few bits: ours beside those of other libraries, in one run.

python benchmarks/lowbit.py                            shapes of 60M and 1.3B, 1, 32 and 512 rows, one thread
python benchmarks/lowbit.py --rows 1 --shapes 60M      a part of that
python benchmarks/lowbit.py --out results.json         the numbers in a file, too
python benchmarks/lowbit.py --smoke                    a tiny shape, to see that it works
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mamba_slm.core.threads import spin_briefly

spin_briefly()  # before torch is loaded

import torch  # noqa: E402
from _lowbit_peers import PEERS, Product  # noqa: E402
from _measure import Case, Way, measure, surroundings  # noqa: E402
from _ops_table import milliseconds  # noqa: E402

from mamba_slm.cli.console import table  # noqa: E402
from mamba_slm.core.files import write_json_atomic  # noqa: E402
from mamba_slm.model.huge_pages import can_be_huge, huge_copies  # noqa: E402
from mamba_slm.ops.lowbit.blocks import quantize_nearest  # noqa: E402
from mamba_slm.ops.lowbit.linear import packed_linear  # noqa: E402
from mamba_slm.ops.lowbit.packed import pack_blocks  # noqa: E402
from mamba_slm.ops.lowbit.scheme import NAMED_SCHEMES, Scheme  # noqa: E402
from mamba_slm.ops.native.row_product import row_product  # noqa: E402
from mamba_slm.ops.native.start import start_native_kernels  # noqa: E402

SHAPES = {"60M gate and up": (3072, 512), "1.3B in_proj": (8512, 2048), "1.3B down": (2048, 4608)}
"""By name: o outputs, i inputs."""
SMOKE = {"tiny": (64, 64)}
ROWS = (1, 32, 512)
STREAMED_BYTES = 96 * 2**20
MOST_MATRICES = 32
"""Of matrices in bfloat16 that one row passes through, so that they come from memory as those of a model do."""
LIBRARIES = ("torch", "torchao", "bitsandbytes", "onnxruntime")

SCHEMES = NAMED_SCHEMES | {
    "int8, zero points": Scheme(format="int8", symmetric=False),
    "int4, zero points": Scheme(format="int4", symmetric=False),
    "int4, blocks of 128": Scheme(format="int4", block_size=128),
    "int4-dynamic": Scheme(format="int4", activations="int8"),
}


def ours(scheme: Scheme) -> Callable[[torch.Tensor], Product]:
    """Our product with a matrix rounded to a scheme, in huge pages as a model's matrices are."""

    def make(weight: torch.Tensor) -> Product:
        packed = pack_blocks(quantize_nearest(weight, scheme))
        if can_be_huge(packed.tensors):
            packed = packed.with_tensors(iter(huge_copies(packed.tensors)))
        return lambda x: packed_linear(x, packed)

    return make


def ours_in_bfloat16(weight: torch.Tensor) -> Product:
    """What the compiled step does with a bfloat16 matrix."""
    (rounded,) = huge_copies([weight.bfloat16()])
    return lambda x: row_product(x, rounded)


WAYS: dict[str, Callable[[torch.Tensor], Product]] = {
    **PEERS,
    "bfloat16, ours": ours_in_bfloat16,
    **{f"{name}, ours": ours(scheme) for name, scheme in SCHEMES.items()},
}


def case_of(name: str, shape: tuple[int, int], rows: int, ways: Sequence[str]) -> Case:
    """Every way through as many matrices of the shape as make a stream; ways that fail here are left out, said why."""
    o, i = shape
    count = 1 if rows > 1 else min(MOST_MATRICES, math.ceil(STREAMED_BYTES / (2 * o * i)))
    weight, x = torch.randn(o, i) / math.sqrt(i), torch.randn(rows, i).bfloat16()
    expected = x.float() @ weight.T
    found = []
    for way in ways:
        try:
            products = [WAYS[way](weight) for _ in range(count)]
            error = float((products[0](x).float() - expected).norm() / expected.norm())
        except (ImportError, RuntimeError, NotImplementedError, AttributeError) as reason:
            print(f"left out, {way}: {str(reason).splitlines()[0][:200]}", file=sys.stderr)
            continue
        assert error < 0.2, f"{way} is off by {error:.0%}"
        found.append(Way(name=way, run=in_turn(products, x)))
    return Case(name=f"{name} [{o} {i}], {rows} row{'s' * (rows > 1)}", ways=found)


def in_turn(products: Sequence[Product], x: torch.Tensor) -> Callable[[], object]:
    """One call of each."""

    def run() -> None:
        with torch.inference_mode():
            for product in products:
                product(x)

    return run


def run_all(
    shapes: dict[str, tuple[int, int]], rows: Sequence[int], ways: Sequence[str], *, rounds: int
) -> dict[str, Any]:
    """Measure everything; a line on stderr for each case."""
    torch.manual_seed(0)
    start_native_kernels()
    found: list[dict[str, Any]] = []
    for name, shape in shapes.items():
        for m in rows:
            case = case_of(name, shape, m, ways)
            print(case.name, file=sys.stderr)
            found += measure(case, rounds=rounds)
    return {
        **surroundings(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "rounds": rounds,
        "measurements": found,
    }


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="Products with matrices of few bits, ours and others.")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--rounds", type=int, default=7, help="how often each way runs (default: 7)")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS, help="rows multiplied at once (default: 1 32 512)")
    parser.add_argument("--shapes", nargs="+", default=["60M", "1.3B"], help="beginnings of names (default: all)")
    parser.add_argument("--ways", nargs="+", default=[""], help="parts of the names of ways (default: all)")
    parser.add_argument("--smoke", action="store_true", help="a tiny shape, to see that it works")
    parser.add_argument("--out", type=Path, help="write the numbers into this file, too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    shapes = SMOKE if args.smoke else {n: shape for n, shape in SHAPES.items() if n.startswith(tuple(args.shapes))}
    first = next(iter(WAYS))
    ways = [name for name in WAYS if name == first or any(part in name for part in args.ways)]
    results = run_all(shapes, args.rows, ways, rounds=args.rounds)
    rows = [
        [row["case"], row["way"], milliseconds(row["seconds"]), f"{row['times_as_fast']:.2f}"]
        for row in results["measurements"]
    ]
    header = ("case", "way", "ms", "times as fast")
    print(", ".join(f"{name} {number}" for name, number in results["libraries"].items()))
    print(table(header, rows, right=header[2:]))
    if args.out:
        write_json_atomic(args.out, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
