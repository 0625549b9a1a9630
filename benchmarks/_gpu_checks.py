"""The parts of `gpu.py` that look at kernels: self-tests, a subset of conformance, and each beside PyTorch's way."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mamba_slm.generation.cuda_graph import GraphRuntime
from mamba_slm.generation.runtime import TorchRuntime
from mamba_slm.model.init import build_model
from mamba_slm.model.mamba2 import Mamba2
from mamba_slm.model.presets import preset
from mamba_slm.model.stack import LanguageModel
from mamba_slm.ops.attention import attention, document_starts
from mamba_slm.ops.conv import causal_conv_silu
from mamba_slm.ops.kernels import without_kernels
from mamba_slm.ops.loss import cross_entropy
from mamba_slm.ops.norm import gated_rms_norm, rms_norm
from mamba_slm.ops.ssd import automatic_ssd_backend, ssd_scan
from mamba_slm.ops.swiglu import swiglu
from mamba_slm.ops.triton.start import start_triton_kernels

ALLOWED = {"float32": 2e-4, "bfloat16": 5e-2, "bfloat16 packed gradients": 1e-1}
"""Largest difference of logits or gradients, relative to the largest; float32 goes through three TF32 products, and
the gradients in bfloat16 have the bound of `tests/tolerances.py`."""


def kernel_checks(device: str) -> dict[str, Any]:
    """Which kernels are in use, why others are not, and how long compiling and testing them took."""
    start = time.perf_counter()
    started = start_triton_kernels(device, print)
    wrong = {name: reason for name, reason in started.left.items() if "WRONG" in reason}
    return {
        "used": list(started.used),
        "left": started.left,
        "wrong": wrong,
        "scan": automatic_ssd_backend(torch.device(device).type),
        "seconds": time.perf_counter() - start,
    }


def conformance(device: str) -> dict[str, Any]:
    """`nano` on the device beside the naive recurrence in float32: logits, gradients, packed documents, decoding."""
    torch.manual_seed(0)  # else every run would draw other tokens, and a bound would hold only mostly
    with without_kernels():
        reference = build_model(preset("nano"), seed=0).to(device)
        for module in reference.modules():
            if isinstance(module, Mamba2):
                module.scan_backend = "reference"
        lengths = (70, 1, 129)
        tokens = torch.randint(reference.config.vocab_size, (1, sum(lengths)), device=device)
        expected = torch.cat([reference(piece) for piece in tokens.split(lengths, dim=1)], dim=1)
        expected_gradients = gradients_of(reference, expected)
    errors: dict[str, float] = {}
    for dtype in ("float32", "bfloat16"):
        model = build_model(preset("nano"), seed=0).to(device)
        numbers = torch.repeat_interleave(torch.tensor(lengths, device=device))[None]
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
            logits = model(tokens, document_ids=numbers)
        gradients = gradients_of(model, logits)
        errors[f"{dtype} packed logits"] = difference(logits, expected)
        errors[f"{dtype} packed gradients"] = max(
            difference(found, wanted) for found, wanted in zip(gradients, expected_gradients, strict=True)
        )
    errors["float32 decoding"] = decoding_error(build_model(preset("nano"), seed=0).to(device))
    wrong = {name: error for name, error in errors.items() if not error <= allowed(name)}
    return {"errors": errors, "wrong": wrong}


def allowed(name: str) -> float:
    """The bound of an error: its own, or that of its number format."""
    return ALLOWED.get(name, ALLOWED[name.split()[0]])


def gradients_of(model: LanguageModel, logits: Tensor) -> list[Tensor]:
    """Of the mean square of the logits, by parameter."""
    logits.square().mean().backward()
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def decoding_error(model: LanguageModel) -> float:
    """The step in a CUDA graph beside one call over the whole text."""
    device = str(model.embedding.weight.device)
    tokens = torch.randint(model.config.vocab_size, (1, 24), device=device)
    runtime = GraphRuntime(model, record=device.startswith("cuda"))
    state = runtime.new_state(1)
    logits = [runtime.next_logits(token, None, state) for token in tokens.split(1, dim=1)]
    whole = TorchRuntime(model)
    return difference(logits[-1], whole.next_logits(tokens, None, whole.new_state(1)))


def difference(found: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest value."""
    found, expected = found.detach().float(), expected.detach().float()
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30))


def kernel_speeds(device: str, *, is_smoke: bool, rounds: int) -> dict[str, Any]:
    """Milliseconds forward and backward in bfloat16, with our kernels and with PyTorch's operations, in turns."""
    b, t, h, p, n, d = (1, 64, 2, 16, 16, 32) if is_smoke else (4, 4096, 64, 64, 128, 2048)
    v = 500 if is_smoke else 32000

    def normal(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        return torch.randn(*shape, device=device, dtype=dtype).requires_grad_()

    f32 = torch.float32
    documents = torch.arange(t, device=device).expand(b, t) // (t // 4)
    steps = torch.rand(b, t, h, device=device).mul_(0.1).requires_grad_()
    rates = -torch.rand(h, device=device)
    x, B, C = normal(b, t, h, p), normal(b, t, 1, n), normal(b, t, 1, n)
    width, weight = h * p, torch.ones(h * p, device=device, requires_grad=True)
    wide, taps, bias = normal(b, t, width), normal(width, 4, dtype=f32), normal(width, dtype=f32)
    gate, residual, scale = normal(b, t, width), normal(b, t, d, dtype=f32), torch.ones(d, device=device)
    inner, hidden, head = normal(b, t, 4 * d), normal(b * t, d), normal(v, d)
    targets = torch.randint(v, (b * t,), device=device)
    q, k, values = normal(b, t, 16, 64), normal(b, t, 4, 64), normal(b, t, 4, 64)
    starts = document_starts(documents)
    cases: dict[str, Callable[[], Tensor]] = {
        "scan": lambda: ssd_scan(x, steps, rates, B, C, chunk_size=64)[0],
        "scan, four documents": lambda: ssd_scan(x, steps, rates, B, C, chunk_size=64, document_ids=documents)[0],
        "convolution": lambda: causal_conv_silu(wide, taps, bias),
        "norm": lambda: rms_norm(residual, scale, eps=1e-5),
        "gated norm": lambda: gated_rms_norm(wide, gate, weight, eps=1e-5),
        "gate": lambda: swiglu(inner),
        "loss": lambda: cross_entropy(hidden, head, targets),
        "attention, four documents": lambda: attention(q, k, values, first_key=starts),
    }
    return {name: in_turns(case, device, rounds) for name, case in cases.items()}


def in_turns(case: Callable[[], Tensor], device: str, rounds: int) -> dict[str, Any]:
    """Milliseconds of the median round of both ways, or why there is no number."""
    taken: dict[str, list[float]] = {"kernels": [], "pytorch": []}
    try:
        for number in range(rounds + 2):
            for name, found in taken.items():
                if name == "kernels":
                    seconds = forward_and_backward(case, device)
                else:
                    with without_kernels():
                        seconds = forward_and_backward(case, device)
                if number >= 2 or rounds == 1:
                    found.append(1000 * seconds)
    except RuntimeError as error:  # PyTorch's way may not fit
        return {"failed": str(error)[:500]}
    middle = {name: statistics.median(found) for name, found in taken.items()}
    return {**{f"{name}_ms": value for name, value in middle.items()}, "ratio": middle["pytorch"] / middle["kernels"]}


def forward_and_backward(case: Callable[[], Tensor], device: str) -> float:
    """Seconds of one call and its gradients."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    start = time.perf_counter()
    result = case()
    result.backward(torch.ones_like(result))
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start
