"""The tables of the roadmap: each number is asked of the commands that a user would ask. Imports no torch."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
from dataclasses import dataclass
from typing import Any

from mamba_slm.cli.main import main
from mamba_slm.core.hardware import find_gpu
from mamba_slm.core.units import format_bytes, format_count
from mamba_slm.training.published_page import days, table
from origins.originals import REPOSITORY

TOKENS = 512 * 2048 * 100_000
"""512 rows of 2,048 tokens, 100,000 times: what the roadmap calls 100B."""
LENGTH = f"--tokens {TOKENS} --context-tokens 2048 --batch-tokens 1Mi"
TUNED = '--gpu "A100 80GB" --context-tokens 2048 --micro-batch-rows 1 --tokens 82M'
TOKEN_BYTES = 4
"""Of a shard, for a vocabulary above 65,536."""
DAY = 86_400.0
HOUR = 3600.0
GOOD_MFU = 0.5
WORKERS = 32


@dataclass(frozen=True)
class Claim:
    """A size on the hardware that the original names, with the days and dollars that it says."""

    model: str
    gpus: int
    gpu: str
    days: tuple[float, float]
    usd: str


CLAIMS = (
    Claim("1.3B", 4, "A100 40GB", (2, 3), "$10-15K"),
    Claim("1.3B", 8, "V100 32GB", (2, 3), "$10-15K"),
    Claim("1.3B", 8, "A100 40GB", (2, 3), "$20K"),
    Claim("1.3B", 8, "A100 80GB", (2, 3), "$20K"),
    Claim("2.7B", 8, "A100 40GB", (4, 5), "$20-30K"),
    Claim("6.7B", 8, "A100 80GB", (5, 7), "$50-100K"),
    Claim("6.7B", 16, "A100 40GB", (5, 7), "$50-100K"),
    Claim("13B", 16, "A100 80GB", (7, 10), "$50-100K"),
)


def asked(line: str) -> Any:
    """The JSON document of `mamba-slm LINE --json`."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        code = main([*shlex.split(line), "--json"])
    assert code == 0, line
    return json.loads(out.getvalue())


def estimate_line(claim: Claim) -> str:
    """The command that plans a claim: the most rows at once, of 4, 2 and 1, that fit."""
    lines = []
    for rows in (4, 2, 1):
        start = f'models estimate {claim.model} --gpus {claim.gpus} --gpu "{claim.gpu}"'
        if not find_gpu(claim.gpu).has_bf16:  # fp16 needs a loss scale, which fsdp and deepspeed do not have here
            start += " --engine ddp"
        lines.append(f"{start} {LENGTH} --micro-batch-rows {rows}")
        if asked(lines[-1])["fits"]:
            return lines[-1]
    return lines[-1]


def sizes_on_their_hardware() -> str:
    """Memory, time and cost of each claim, beside it."""
    header = ["size", "on", "memory of each", "engine", "days at 30% MFU", "at 50%", "cost at 30%", "spot"]
    header += ["said", "said to cost", "MFU that it needs"]
    rows = []
    for claim in CLAIMS:
        line = estimate_line(claim)
        cautious, good = asked(line), asked(f"{line} --mfu {GOOD_MFU}")
        peak = find_gpu(claim.gpu).flops_per_second(cautious["precision"])
        needed = cautious["flops_per_token"] * TOKENS / (claim.days[1] * DAY) / (claim.gpus * peak) / 0.75
        fits = "" if cautious["fits"] else ": does not fit"
        rows.append(
            [
                claim.model,
                f"{claim.gpus} × {claim.gpu}, {cautious['precision']}",
                f"{format_bytes(cautious['memory_bytes'])} with {cautious['rows_at_once']} rows at once{fits}",
                cautious["spread"]["engine"],
                f"{cautious['seconds'] / DAY:,.1f}",
                f"{good['seconds'] / DAY:,.1f}",
                usd(cautious["cost_usd"]),
                usd(cautious["spot_usd"]),
                f"{claim.days[0]:g} to {claim.days[1]:g} days",
                claim.usd,
                f"{needed:.0%}",
            ]
        )
    return table(header, rows)


def commands_of_claims() -> str:
    """The commands behind `sizes_on_their_hardware`."""
    return "\n".join(f"mamba-slm {estimate_line(claim)}" for claim in CLAIMS)


def thirteen_with_zero_3() -> str:
    """The 13B with the engine that the original names."""
    found = asked(
        f'models estimate 13B --gpus 16 --gpu "A100 80GB" {LENGTH} --micro-batch-rows 1 '
        "--engine deepspeed --zero-stage 3"
    )
    return format_bytes(found["memory_bytes"])


def sizes() -> str:
    """Counts, and what a conversation keeps."""
    header = [
        "size",
        "parameters",
        "said",
        "weights in BF16",
        "said",
        "layers",
        "of them attention",
        "KV heads",
        "cache by GQA",
    ]
    said = {
        "1.3B": ("1.44B", "2.68 GB"),
        "2.7B": ("2.56B", "4.77 GB"),
        "6.7B": ("5.96B", "11.10 GB"),
        "13B": ("10.66B", "19.85 GB"),
    }
    rows = []
    for size in asked("models list"):
        if size["name"] in said:
            count, memory = said[size["name"]]
            ratio = size["num_heads"] / size["num_kv_heads"]
            attention = f"{size['attention_layers']} ({size['attention_layers'] / size['layers']:.0%})"
            rows.append(
                [
                    size["name"], format_count(size["parameters"]), count, format_bytes(size["bf16_bytes"]), memory,
                    str(size["layers"]), attention,
                    f"{size['num_kv_heads']} of {size['num_heads']}", f"{ratio:g} times smaller",
                ]
            )  # fmt: skip
    return table(header, rows)


def curation() -> str:
    """Hours for 100B tokens, by the original's rates and by those measured here."""
    measured = {}
    for result in json.loads((REPOSITORY / "benchmarks/results/data.json").read_text(encoding="utf-8"))["rows"]:
        if result["way"] == "ours":
            measured.setdefault(result["stage"], result["tokens_per_second"])
    rows = []
    for what, rate, said, stage in (
        ("quality", 100e3, 11, "quality"),
        ("near duplicates", 50e3, 22, "near-duplicates"),
        ("tokens", 200e3, 6, "tokens"),
        ("the whole chain of curation", None, None, "whole chain"),
    ):
        ours = measured[stage]
        theirs = ["", "", ""] if rate is None else [
            f"{format_count(rate)} tokens/s", f"{said} hours", f"{100e9 / rate / WORKERS / HOUR:.1f} hours"
        ]  # fmt: skip
        rows.append([what, *theirs, f"{format_count(ours)} tokens/s", days(100e9 / ours / WORKERS), days(100e9 / ours)])
    header = ["stage", "said, per worker", "said, 100B by 32", "its own rate gives"]
    header += ["measured here, per core", "100B by 32 cores", "100B by one core"]
    return table(header, rows)


def tuning() -> str:
    """10,000 steps of instruction tuning by each method."""
    rows = []
    for method in ("qlora", "lora", "full"):
        rank = "" if method == "full" else " --rank 64"
        line = f"models estimate 1.3B --task {method}{rank} {TUNED}"
        found = asked(line)
        share = found["trained_parameters"] / found["parameters"] if "trained_parameters" in found else 1.0
        rows.append(
            [
                f"`mamba-slm {line}`",
                f"{share:.2%}",
                format_bytes(found["memory_bytes"]),
                days(found["seconds"]),
                usd(found["cost_usd"]),
            ]
        )
    return table(["command", "of the parameters", "memory", "time", "cost"], rows)


def storage() -> str:
    """Checkpoints of one run of 1.3B, and the tokens."""
    found = asked(f'models estimate 1.3B --gpus 8 --gpu "A100 80GB" {LENGTH}')
    return (
        f"Checkpoints of 1.3B are {format_bytes(found['checkpoint_bytes'])} each (said: 20 GB); with those that are "
        f"kept and the finished model a run stores {format_bytes(found['stored_bytes'])}. The tokens are "
        f"{format_bytes(TOKENS * TOKEN_BYTES)}: a vocabulary of 128,256 does not fit into the 2 bytes per token that "
        "200 GB (or, in another place, 150 GB) for 100B tokens would be."
    )


def usd(amount: float) -> str:
    """Whole dollars from 100 on."""
    return f"${amount:,.0f}" if amount >= 100 else f"${amount:,.2f}"
