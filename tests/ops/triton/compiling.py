"""Compile every kernel for an H100 or H200 without a GPU, and print what each needs as JSON; run by `test_compiling`.

Triton's compiler and assembler need no driver. The functions of `ops/triton` run on CPU tensors with every launch
replaced by a compilation.
"""

import json

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

HOPPER = GPUTarget("cuda", 90, 32)


class NoDevice:
    """What Triton asks of a driver before it compiles."""

    def get_current_target(self):
        return HOPPER

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


compiled = []


def compile_instead(self, grid):
    def compile_for(*args, **settings):
        kernel = self.warmup(*args, grid=grid, **settings)
        dtype = next(str(arg.dtype) for arg in args if isinstance(arg, torch.Tensor))
        compiled.append(
            {
                "name": self.__name__,
                "dtype": dtype.removeprefix("torch."),
                "shared_bytes": kernel.metadata.shared,
                "tensor_cores": any(word in kernel.asm["ptx"] for word in ("wgmma", "mma.sync")),
                "cubin_bytes": len(kernel.asm["cubin"]),
            }
        )

    return compile_for


def scan(dtype, *, documents, p=64):
    from mamba_slm.ops.triton import ssd

    ssd.INTERPRETED = True  # let CPU tensors in
    b, t, h, g, n = 1, 128, 2, 1, 128
    x = torch.zeros(b, t, h, p, dtype=dtype, requires_grad=True)
    B, C = (torch.zeros(b, t, g, n, dtype=dtype) for _ in range(2))
    ids = torch.zeros(b, t, dtype=torch.int64) if documents else None
    y, last = ssd.ssd_triton(x, torch.zeros(b, t, h), torch.zeros(h), B, C, document_ids=ids)
    (y.sum() + last.sum()).backward()


def rest(dtype, *, documents):
    from mamba_slm.ops.triton import conv, loss, norm, swiglu

    b, t, c = 1, 64, 4352
    ids = torch.zeros(b, t, dtype=torch.int64) if documents else None
    window = torch.zeros(b, 3, c, dtype=dtype) if documents else None
    x = torch.zeros(b, t, c, dtype=dtype, requires_grad=True)
    conv.causal_conv_silu(
        x, torch.zeros(c, 4), torch.zeros(c), window=window, document_ids=ids, dtype=dtype
    ).sum().backward()
    if not documents:
        norm.rms_norm(x, torch.zeros(c), eps=1e-5, dtype=torch.bfloat16).sum().backward()
        norm.gated_rms_norm(x, x, torch.zeros(c), eps=1e-5).sum().backward()
        swiglu.swiglu(x).sum().backward()
        loss.token_losses(
            torch.zeros(8, 32000, dtype=dtype), torch.zeros(8, 1, dtype=torch.int64), torch.zeros(8, 1), True
        )


def main():
    driver.set_active(NoDevice())
    JITFunction.__getitem__ = compile_instead
    for dtype in (torch.bfloat16, torch.float32):
        for documents in (False, True):
            scan(dtype, documents=documents)
            rest(dtype, documents=documents)
    scan(torch.bfloat16, documents=True, p=128)
    print(json.dumps(compiled))


if __name__ == "__main__":
    main()
