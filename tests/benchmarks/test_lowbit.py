"""`benchmarks/lowbit.py` multiplies with every way that it names, and each is near the float32 product."""

import subprocess
import sys
from pathlib import Path

import pytest

from mamba_slm.ops.native.library import missing_for_native

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "lowbit.py"
OURS = ("int8", "int4", "nf4", "fp4", "int8-dynamic", "int4-dynamic", "int4, zero points", "bfloat16")


@pytest.mark.slow
@pytest.mark.skipif(missing_for_native() is not None, reason=str(missing_for_native()))
def test_every_way_has_a_row_in_the_table():
    flags = ("--smoke", "--rounds", "1", "--rows", "1", "40", "--ways", "ours", "_weight_", "ONNX")
    done = subprocess.run([sys.executable, str(SCRIPT), *flags], capture_output=True, text=True, check=True)
    for rows in ("1 row ", "40 rows"):
        lines = [line for line in done.stdout.splitlines() if f"tiny [64 64], {rows}" in line]
        for way in (*(f"{name}, ours" for name in OURS), "bfloat16, F.linear", "int4, ONNX Runtime MatMulNBits"):
            assert any(f" {way} " in line for line in lines), (rows, way, done.stdout, done.stderr)
