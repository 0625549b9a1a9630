"""Every fast path beside its definition, or beside PyTorch's stock way, in one run: `make bench`.

python benchmarks/ops.py                 all cases, one thread; writes results/ops.json, which page.py shows
python benchmarks/ops.py --threads 4     with four threads
python benchmarks/ops.py --smoke         tiny sizes, to see that it works; writes nothing
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.threads import spin_briefly

spin_briefly()  # before torch is loaded

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from _measure import Case, Way, measure, surroundings  # noqa: E402
from _ops_table import HEADER, RIGHT, table_rows  # noqa: E402

from mamba_slm.cli.console import table  # noqa: E402
from mamba_slm.core.files import write_json_atomic  # noqa: E402
from mamba_slm.data.loader import Batch  # noqa: E402
from mamba_slm.model.config import ModelConfig  # noqa: E402
from mamba_slm.model.count import train_flops_per_token  # noqa: E402
from mamba_slm.model.init import build_model  # noqa: E402
from mamba_slm.model.mamba2 import Mamba2  # noqa: E402
from mamba_slm.model.presets import preset  # noqa: E402
from mamba_slm.ops.attention import attention, attention_reference, document_starts  # noqa: E402
from mamba_slm.ops.conv import causal_conv, causal_conv_reference  # noqa: E402
from mamba_slm.ops.loss import cross_entropy  # noqa: E402
from mamba_slm.ops.norm import gated_rms_norm, gated_rms_norm_reference, rms_norm, rms_norm_reference  # noqa: E402
from mamba_slm.ops.ssd import ssd_scan  # noqa: E402
from mamba_slm.training.config import TrainConfig  # noqa: E402
from mamba_slm.training.gradients import accumulate_gradients, clip_gradients  # noqa: E402
from mamba_slm.training.optim import build_optimizer  # noqa: E402
from mamba_slm.training.peak import measured_gemm_rate  # noqa: E402
from mamba_slm.training.precision import Precision, PrecisionName, choose_precision  # noqa: E402
from mamba_slm.training.presets import train_preset  # noqa: E402

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results" / "ops.json"
MODEL = "nano"
TRAIN_STEP = "training step"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large the inputs are, and how often everything is timed."""

    rows: int
    context_tokens: int
    rounds: int
    """Of the operations."""
    step_rounds: int
    """Of the training step."""
    gemm_seconds: float
    """How long to look for the machine's best rate."""


FULL = Scale(rows=8, context_tokens=256, rounds=11, step_rounds=5, gemm_seconds=0.5)
SMOKE = Scale(rows=1, context_tokens=70, rounds=1, step_rounds=1, gemm_seconds=0.01)


def forward_and_backward(function: Callable[..., torch.Tensor], inputs: list[torch.Tensor]) -> Callable[[], object]:
    """A call of `function(*inputs)` and the gradients of all inputs for a fixed gradient of the result."""
    with torch.no_grad():
        gradient = torch.randn_like(function(*inputs))
    return lambda: function(*inputs).backward(gradient)


def both_passes(name: str, inputs: list[torch.Tensor], ways: dict[str, Callable[..., torch.Tensor]]) -> Case:
    """A case of functions of the same inputs, forward and backward; the first way is the one to compare with."""
    return Case(
        name=name,
        ways=[
            Way(name=way, run=forward_and_backward(function, inputs), inputs=inputs) for way, function in ways.items()
        ],
    )


def normal(*shape: int) -> torch.Tensor:
    """Random values that need a gradient."""
    return torch.randn(shape).requires_grad_()


def two_documents(scale: Scale) -> torch.Tensor:
    """Document ids [b t] with one boundary in each row, as packed training rows have them."""
    ids = torch.zeros(scale.rows, scale.context_tokens, dtype=torch.int64)
    ids[:, scale.context_tokens * 2 // 5 :] = 1
    return ids


def scan_cases(c: ModelConfig, scale: Scale) -> Iterator[Case]:
    """The state-space scan on packed documents."""
    b, t, h, p = scale.rows, scale.context_tokens, c.num_ssm_heads, c.ssm_head_dim
    documents = two_documents(scale)
    inputs = [
        normal(b, t, h, p),
        torch.rand(b, t, h).requires_grad_(),
        (-torch.rand(h)).requires_grad_(),
        normal(b, t, c.num_groups, c.state_size),
        normal(b, t, c.num_groups, c.state_size),
    ]

    def scan(backend: str) -> Callable[..., torch.Tensor]:
        return lambda *tensors: ssd_scan(
            *tensors, document_ids=documents, chunk_size=c.chunk_size, backend=backend
        )[0]  # fmt: skip

    def forward(backend: str) -> Callable[[], object]:
        return torch.no_grad()(lambda: scan(backend)(*inputs))

    names = {
        "reference": "one token after the other (definition)",
        "chunked": "chunked, gradients by autograd",
        "recompute": "recompute, own gradients (automatic)",
    }
    yield Case(name="scan, forward", ways=[Way(name=name, run=forward(backend)) for backend, name in names.items()])
    yield both_passes(
        "scan, forward and backward", inputs, {name: scan(backend) for backend, name in names.items()}
    )  # fmt: skip


def conv_cases(c: ModelConfig, scale: Scale) -> Iterator[Case]:
    """The causal depthwise convolution."""
    inputs = [
        normal(scale.rows, scale.context_tokens, c.conv_size), normal(c.conv_size, c.conv_kernel), normal(c.conv_size)
    ]  # fmt: skip
    documents = two_documents(scale)

    def conv1d(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        padded = F.pad(x.transpose(1, 2), (weight.shape[1] - 1, 0))
        return F.conv1d(padded, weight[:, None], bias, groups=weight.shape[0]).transpose(1, 2)

    yield both_passes(
        "convolution, forward and backward",
        inputs,
        {"conv1d (PyTorch)": conv1d, "tap by tap (definition)": causal_conv_reference, "causal_conv": causal_conv},
    )
    yield both_passes(
        "convolution of packed documents, forward and backward",
        inputs,
        {
            "tap by tap (definition)": lambda *tensors: causal_conv_reference(*tensors, document_ids=documents),
            "causal_conv": lambda *tensors: causal_conv(*tensors, document_ids=documents),
        },
    )


def norm_cases(c: ModelConfig, scale: Scale) -> Iterator[Case]:
    """RMSNorm, and the gated one behind the scan."""
    eps, d, i = c.norm_eps, c.hidden_size, c.inner_size
    yield both_passes(
        "RMSNorm, forward and backward",
        [normal(scale.rows, scale.context_tokens, d), normal(d)],
        {
            "rms_norm (PyTorch)": lambda x, weight: F.rms_norm(x, (d,), weight, eps),
            "as written (definition)": lambda x, weight: rms_norm_reference(x, weight, eps=eps),
            "rms_norm": lambda x, weight: rms_norm(x, weight, eps=eps),
        },
    )
    yield both_passes(
        "gated RMSNorm, forward and backward",
        [normal(scale.rows, scale.context_tokens, i), normal(scale.rows, scale.context_tokens, i), normal(i)],
        {
            "as written (definition)": lambda x, z, weight: gated_rms_norm_reference(x, z, weight, eps=eps),
            "gated_rms_norm": lambda x, z, weight: gated_rms_norm(x, z, weight, eps=eps),
        },
    )


def attention_cases(c: ModelConfig, scale: Scale, precision: PrecisionName) -> Iterator[Case]:
    """Attention over packed documents, with fewer key-value heads than query heads."""
    b, t = scale.rows, scale.context_tokens
    first_key = document_starts(two_documents(scale))
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    inputs = [
        torch.randn(b, t, heads, c.head_dim, dtype=dtype).requires_grad_()
        for heads in (c.num_heads, c.num_kv_heads, c.num_kv_heads)
    ]

    def expanded(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        k, v = (m.repeat_interleave(c.num_heads // c.num_kv_heads, dim=2) for m in (k, v))
        return attention(q, k, v, first_key=first_key)

    yield both_passes(
        f"attention, {precision}, forward and backward",
        inputs,
        {
            "scores and softmax (definition)": lambda q, k, v: attention_reference(q, k, v, first_key=first_key),
            "SDPA (PyTorch), keys and values expanded": expanded,
            "attention": lambda q, k, v: attention(q, k, v, first_key=first_key),
        },
    )


def loss_cases(c: ModelConfig, scale: Scale, precision: PrecisionName) -> Iterator[Case]:
    """The head and its cross-entropy."""
    tokens = scale.rows * scale.context_tokens
    targets = torch.randint(c.vocab_size, (tokens,))
    autocast = Precision(precision, "cpu").autocast

    def stock(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        with autocast():
            return F.cross_entropy(F.linear(hidden, weight).float(), targets, reduction="sum")

    def chunked(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        with autocast():
            return cross_entropy(hidden, weight, targets)

    yield both_passes(
        f"loss, {precision}, forward and backward",
        [normal(tokens, c.hidden_size), (0.02 * torch.randn(c.vocab_size, c.hidden_size)).requires_grad_()],
        {"all logits, cross_entropy (PyTorch)": stock, "chunks, gradients in the forward pass": chunked},
    )


def train_step(
    c: ModelConfig, batch: Batch, *, precision: PrecisionName, backend: str, checkpointing: bool = False
) -> Callable[[], object]:
    """One step as the trainer takes it: gradients in as many pieces as it would use, clipping, AdamW."""
    settings = TrainConfig(**{**train_preset(MODEL), "device": "cpu"})
    model = build_model(c, seed=0)
    model.gradient_checkpointing = checkpointing
    for module in model.modules():
        if isinstance(module, Mamba2):
            module.scan_backend = backend
    optimizer = build_optimizer(model, learning_rate=1e-3, weight_decay=0.1, betas=(0.9, 0.95), epsilon=1e-8)
    arithmetic = Precision(precision, "cpu")

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        accumulate_gradients(model, batch, rows_at_once=settings.rows_at_once, precision=arithmetic, device="cpu")
        clip_gradients(model.parameters(), 1.0)
        optimizer.step()

    return step


def train_case(c: ModelConfig, batch: Batch, precision: PrecisionName) -> Case:
    """Whole training steps: what the scan's own gradients, the automatic precision and checkpointing change."""
    steps = {"fp32, scan chunked": train_step(c, batch, precision="fp32", backend="chunked")}
    for name in dict.fromkeys(["fp32", precision]):
        steps[f"{name}, scan recompute"] = train_step(c, batch, precision=name, backend="recompute")
    steps[f"{precision}, scan recompute, gradient checkpointing"] = train_step(
        c, batch, precision=precision, backend="recompute", checkpointing=True
    )
    return Case(name=TRAIN_STEP, ways=[Way(name=name, run=run) for name, run in steps.items()])


def random_batch(c: ModelConfig, scale: Scale) -> Batch:
    """Random tokens as packed rows; what the tokens are does not change the speed."""
    tokens = torch.randint(c.vocab_size, (scale.rows, scale.context_tokens + 1)).numpy()
    return Batch(
        inputs=tokens[:, :-1],
        targets=tokens[:, 1:],
        document_ids=two_documents(scale).int().numpy(),
    )


def run_all(scale: Scale) -> dict[str, Any]:
    """Measure everything; a line on stderr for each case."""
    torch.manual_seed(0)
    c = preset(MODEL)
    precision: PrecisionName = choose_precision("auto", "cpu").value  # type: ignore[assignment]
    rates = {name: measured_gemm_rate(precision=name, seconds=scale.gemm_seconds) for name in ("fp32", "bf16")}
    rows: list[dict[str, Any]] = []
    cases = [
        *scan_cases(c, scale),
        *conv_cases(c, scale),
        *norm_cases(c, scale),
        *attention_cases(c, scale, precision),
        *loss_cases(c, scale, precision),
    ]
    for case in cases:
        print(case.name, file=sys.stderr)
        rows += measure(case, rounds=scale.rounds)
    print(TRAIN_STEP, file=sys.stderr)
    batch = random_batch(c, scale)
    for row in measure(train_case(c, batch, precision), rounds=scale.step_rounds):
        rate = batch.num_targets / row["seconds"]
        flops = train_flops_per_token(c, scale.context_tokens) * rate
        rows.append(row | {"tokens_per_second": rate, "mfu": flops / rates[row["way"].partition(",")[0]]})
    return {
        **surroundings(),
        "model": MODEL,
        "rows": scale.rows,
        "context_tokens": scale.context_tokens,
        "rounds": scale.rounds,
        "step_rounds": scale.step_rounds,
        "gemm_flops_per_second": rates,
        "measurements": rows,
    }


def main() -> int:
    """Measure, print the table, and write the results."""
    parser = argparse.ArgumentParser(description="Every fast path beside its definition, or PyTorch's stock way.")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see that it works; writes nothing")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = run_all(SMOKE if args.smoke else FULL)
    print(table(HEADER, table_rows(results), right=RIGHT))
    if not args.smoke:
        write_json_atomic(RESULTS, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
