"""Every kernel compiles to machine code of an H200 on any Linux machine, and fits a multiprocessor."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
SHARED_BYTES_PER_PROGRAM = 227 * 1024
KERNELS = {
    *("chunk_decays", "carry_states", "chunk_outputs", "head_gradients", "group_gradients"),
    *("conv_forward", "conv_backward", "norm_forward", "norm_backward", "swiglu_forward", "swiglu_backward"),
    "softmax_loss",
}
WITH_PRODUCTS = {"carry_states", "chunk_outputs", "head_gradients", "group_gradients"}


def test_every_kernel_compiles_for_an_h200_and_fits_into_its_memory(tmp_path):
    pytest.importorskip("triton")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("compiling.py"))],
        env={**environment, "TRITON_CACHE_DIR": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    compiled = json.loads(done.stdout)
    assert {(kernel["name"], kernel["dtype"]) for kernel in compiled} >= {
        (name, dtype) for name in KERNELS - {"chunk_decays"} for dtype in ("bfloat16", "float32")
    }
    for kernel in compiled:
        assert kernel["cubin_bytes"], kernel
        assert kernel["shared_bytes"] <= SHARED_BYTES_PER_PROGRAM, kernel
        assert kernel["tensor_cores"] == (kernel["name"] in WITH_PRODUCTS), kernel
