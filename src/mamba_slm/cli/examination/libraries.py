"""Kernels of others: what PyTorch uses here for attention and matrix products, and the packages for GPUs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mamba_slm.cli.examination.check import Check
from mamba_slm.cli.examination.installing import Installation
from mamba_slm.cli.examination.packages import installed_version, is_present

if TYPE_CHECKING:
    from torch import Tensor

GPU_PACKAGES = {
    "triton": ("triton", "what torch.compile writes GPU kernels in"),
    "flash-linear-attention": ("fla", "Triton kernels of the scan"),
    "mamba-ssm": ("mamba_ssm", "the original CUDA kernels of the scan"),
    "causal-conv1d": ("causal_conv1d", "a CUDA kernel of the causal convolution"),
    "flash-attn": ("flash_attn", "CUDA kernels of attention; PyTorch's own are there anyway"),
}
"""Package -> (module, what it is for)."""
USED_BY_US = {"triton"}  # through `--compile` and by `ops/triton`

SDPA_KERNELS = {
    "ScaledDotProductFlashAttentionForCpu": "flash (CPU)",
    "ScaledDotProductFlashAttention": "flash",
    "ScaledDotProductEfficientAttention": "memory-efficient",
    "ScaledDotProductCudnnAttention": "cuDNN",
    "ScaledDotProductFusedAttentionOverrideable": "the device's own fused",
}
"""Operator of PyTorch, as autograd names it -> the kernel as PyTorch's documentation calls it."""


def attention_kernel(output: Tensor) -> str:
    """The kernel that computed a result of scaled_dot_product_attention, as autograd remembers it; "math" is plain
    products and a softmax."""
    nodes, seen = [output.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        name = node.name().partition("Backward")[0]
        if name in SDPA_KERNELS:
            return SDPA_KERNELS[name]
        nodes += [before for before, _ in node.next_functions]
    return "math"


def attention_check(device: str) -> Check:
    """Which kernel attention runs on, for plain rows and for packed documents, as training calls it."""
    import torch

    from mamba_slm.ops.attention import attention, document_starts

    def normal(heads: int) -> Tensor:
        return torch.randn(2, 65, heads, 64, device=device, requires_grad=True)

    positions = torch.arange(65, device=device).expand(2, -1)
    first_key = document_starts(positions // 30)
    q, k, v = normal(4), normal(2), normal(2)
    plain = attention_kernel(attention(q, k, v))
    packed = attention_kernel(attention(q, k, v, first_key=first_key))
    if plain == packed != "math":
        return Check(section="kernels", name="sdpa", text=f"PyTorch's attention runs its {plain} kernel")
    text = f"PyTorch's attention runs as {plain} for plain rows, {packed} for packed documents"
    if "math" not in (plain, packed):
        return Check(section="kernels", name="sdpa", text=text)
    return Check(
        section="kernels", name="sdpa", status="note", text=text, about_speed=True,
        cost="memory that grows with the square of the length; not measured: this torch has no other kernel here",
    )  # fmt: skip


def onednn_check(install: Installation, *, architecture: str, rates: Mapping[str, float] | None = None) -> Check:
    """oneDNN and MKL, which PyTorch multiplies matrices with on x86.

    Args:
        architecture: as `platform.machine()` says.
        rates: measured FLOP/s of matrix products by precision.
    """
    import torch

    build = torch.__config__.show()
    versions = [
        f"{name} {found[1]}"
        for name, pattern in (("oneDNN", r"MKL-DNN v([\d.]+)"), ("MKL", r"Math Kernel Library Version ([\d.]+)"))
        if (found := re.search(pattern, build))
    ]
    has_onednn = torch.backends.mkldnn.is_available()
    if has_onednn or architecture not in ("x86_64", "AMD64"):
        text = f"{' and '.join(versions) or 'oneDNN' if has_onednn else 'not oneDNN, but what this system brings'}"
        return Check(section="kernels", name="onednn", text=f"matrix products by {text}")
    cost = "not measured: run without --no-measure"
    if rates:
        listed = ", ".join(f"{rate / 1e9:.0f} GFLOP/s {precision}" for precision, rate in rates.items())
        cost = f"{listed} is all that is reached here (measured); what oneDNN would reach is not known"
    return Check(
        section="kernels", name="onednn", status="note", text="this torch is built without oneDNN",
        cost=cost, hint=install.packages(["torch>=2.11"], again=True), about_speed=True,
    )  # fmt: skip


def gpu_kernel_checks(device: str) -> list[Check]:
    """Our kernels for GPUs, started so that the checks of single operations look at them; none without a GPU."""
    if not device.startswith("cuda"):
        return []
    from mamba_slm.ops.triton.start import start_triton_kernels

    started = start_triton_kernels(device)
    cost = "these operations are PyTorch's, and slower" if started.left else ""
    return [Check(section="kernels", name="GPU kernels", status="note" if started.left else "ok", text=str(started),
                  cost=cost, about_speed=bool(started.left))]  # fmt: skip


def gpu_package_checks(install: Installation, *, has_gpu: bool, broken: Mapping[str, str]) -> list[Check]:
    """The packages with GPU kernels. Without a GPU nothing of them is missed.

    Args:
        broken: package -> why importing it fails.
    """
    return [gpu_package_check(name, install, has_gpu=has_gpu, broken=broken.get(name)) for name in GPU_PACKAGES]


def gpu_package_check(name: str, install: Installation, *, has_gpu: bool, broken: str | None) -> Check:
    """One package with GPU kernels."""
    module, purpose = GPU_PACKAGES[name]
    version = installed_version(name)
    used = "used by --compile" if name in USED_BY_US else "not used by this version"
    if version is None and not is_present(module):
        if not has_gpu:
            return Check(section="kernels", name=name, text="absent", cost="nothing here: needs a GPU")
        cost = "not measured: needs the package" if name in USED_BY_US else "nothing: this version would not use it"
        return Check(
            section="kernels", name=name, status="note" if name in USED_BY_US else "ok", text=f"absent; {purpose}",
            cost=cost, hint=install.packages([name]), about_speed=name in USED_BY_US,
        )  # fmt: skip
    text = f"{version or 'version unknown'}, {used}; {purpose}"
    if broken:
        matters = has_gpu and name in USED_BY_US
        return Check(
            section="kernels", name=name, status="note" if matters else "ok",
            text=f"{version or 'version unknown'}, but cannot be imported: {broken}",
            cost="--compile does not work on the GPU" if matters else f"nothing here: {used}",
            hint=install.packages([name], again=True),
        )  # fmt: skip
    return Check(section="kernels", name=name, text=text)
