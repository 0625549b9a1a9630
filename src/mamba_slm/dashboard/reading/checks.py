"""What was verified of a model, and what it lost, in the words of the command that wrote it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import MambaSlmError
from mamba_slm.dashboard.reading.facts import log_tail
from mamba_slm.dashboard.reading.lineage import output_of, resolved, writer_of
from mamba_slm.dashboard.reading.models import HF, ONNX, QUANTIZED, Model, json_object
from mamba_slm.dashboard.reading.plain import open_plain
from mamba_slm.runs.evidence import number, row_list, section
from mamba_slm.runs.jobs import Job

SAID = (
    "verified", "read back", "llama.cpp  ", "on text", "on disk", "in memory", "perplexity", "KL ", "same token",
    "decoding", "reading", "measured on", "calibrated on", "as it runs", "int8  ", "int4  ", "rounded", "fell back",
    "model       ", "warning:", "error:", "hint:", "tokenizers:", "random tokens", "text ",
    "first layer that drifts", "logits", "tokens  ", "quantized  original",
)  # fmt: skip
"""How lines begin that say what came out, in what quantize, export and verify print."""
DIFFERENT = 6
"""Exit code of verify where a logit is off by more than is allowed."""
MOST_LINES = 40
WORST_SHOWN = 3
MOST_CARD_BYTES = 65_536


@dataclass(frozen=True, kw_only=True)
class Check:
    """Some lines, and where they stand."""

    source: str
    lines: tuple[str, ...]


def lines_of(job: Job) -> tuple[str, ...]:
    """What a job of quantize, export or verify found: its results, without the talk on the way."""
    found = []
    text = log_tail(job.log_file)
    if any(word.startswith("--compare") for word in job.words) and "\nformat " in text:
        return tuple(line.rstrip()[:500] for line in text[text.rindex("\nformat ") + 1 :].splitlines())[:MOST_LINES]
    for line in text.splitlines():
        shown = line.rstrip()
        if shown.lstrip().startswith(SAID) and not shown.startswith("measuring"):
            found.append(shown[:500])
    return tuple(found[-MOST_LINES:])


def checks_of(model: Model, jobs: Sequence[Job]) -> list[Check]:
    """What the files beside a model, and the job that wrote it, say of its quality."""
    found = []
    if model.kind == QUANTIZED:
        found += of_report(model.folder)
    elif model.kind == HF:
        found += of_card(model.folder / "README.md")
    elif model.kind == ONNX:
        found += of_quantization(model.folder)
    job = writer_of(model.path, jobs)
    if job is not None and model.kind != QUANTIZED and (lines := lines_of(job)):
        found.append(Check(source=f"job {int(job.id)}: {job.command}", lines=lines))
    compared = last_comparison(model, jobs)
    if compared is not None:
        found.append(Check(source=f"job {int(compared.id)}: {compared.command}", lines=lines_of(compared)))
    return found


def last_comparison(model: Model, jobs: Sequence[Job]) -> Job | None:
    """The last job of verify in which the model was the one that is compared with a reference."""
    for job in reversed(jobs):
        words = list(job.words)
        is_one = len(words) > 3 and words[1] == "verify" and job.exit_code in (0, DIFFERENT)
        if is_one and resolved(job, words[3]) == model.path:
            return job
    return None


def of_report(folder: Path) -> list[Check]:
    """report.json of `mamba-slm quantize`."""
    values = read(folder / "report.json")
    size, quality = section(values, "size"), section(values, "quality")
    if not size or not quality:
        return []
    change, error = number(quality, "perplexity_change"), number(quality, "loss_change_error")
    lines = [
        f"file {shown(number(size, 'file_ratio'), '.3f')} of BF16, {shown(number(size, 'bits_per_weight'), '.2f')} "
        "bits per weight",
        f"perplexity {shown(number(quality, 'perplexity_before'), '.4f')} → "
        f"{shown(number(quality, 'perplexity'), '.4f')} ({shown(change, '+.2%')} ± {shown(error, '.2%')}, one standard "
        "error)",
        f"KL {shown(number(quality, 'mean_kl'), '.1e')} nats per token, same most likely token at "
        f"{shown(number(quality, 'argmax_agreement'), '.4f')} of positions",
        f"measured on {shown(number(quality, 'num_tokens'), ',')} tokens of {str(values.get('measured_on'))[:200]}",
    ]
    speed = section(values, "speed")
    if speed:
        decode, prefill = number(speed, "decode_ratio"), number(speed, "prefill_ratio")
        lines.append(f"decoding {shown(decode, '.2f')} times the speed of BF16, reading {shown(prefill, '.2f')} times")
    lines += alone(row_list(values, "parts")) + alone(row_list(values, "matrices"))
    remarks = values.get("remarks")
    lines += [f"remark: {str(each)[:300]}" for each in remarks[:8]] if isinstance(remarks, list) else []
    return [Check(source="report.json", lines=tuple(lines))]


def alone(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the parts or matrices cost that cost most when nothing else is quantized."""
    worst = sorted(rows, key=lambda row: -(number(row, "mean_kl") or 0))[:WORST_SHOWN]
    return [
        f"{str(row.get('name'))[:80]} alone, {str(row.get('scheme'))[:60]}: KL {shown(number(row, 'mean_kl'), '.1e')}, "
        f"perplexity {shown(number(row, 'perplexity_change'), '+.2%')}"
        for row in worst
    ]


def of_card(path: Path) -> list[Check]:
    """What the model card of `mamba-slm export hf` says under "Verified"."""
    try:
        with open_plain(path, follows=True) as file:
            text = file.read(MOST_CARD_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return []
    match = re.search(r"^## Verified\n+(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line.strip()[:500] for line in (match[1] if match else "").splitlines() if line.strip()]
    return [Check(source=path.name, lines=tuple(lines[:MOST_LINES]))] if lines else []


def of_quantization(folder: Path) -> list[Check]:
    """quantization.json of `mamba-slm export onnx`; full precision has none."""
    values = read(folder / "quantization.json")
    if not values:
        return []
    line = (
        f"{str(values.get('weights'))[:40]}: KL {shown(number(values, 'mean_kl'), '.1e')} nats, same most likely token "
        f"at {shown(number(values, 'argmax_agreement'), '.4f')} of positions, perplexity "
        f"{shown(number(values, 'perplexity_before'), '.2f')} → {shown(number(values, 'perplexity_after'), '.2f')} "
        f"({shown(number(values, 'perplexity_change'), '+.2%')}) on {shown(number(values, 'num_tokens'), ',')} tokens "
        f"of {str(values.get('text'))[:200]}"
    )
    return [Check(source="quantization.json", lines=(line,))]


def read(path: Path) -> Mapping[str, Any]:
    """A JSON object; empty when it is not there or damaged."""
    try:
        return json_object(path) if path.is_file() else {}
    except MambaSlmError:
        return {}


def shown(value: float | None, form: str) -> str:
    """A number as `format` writes it; a dash where there is none."""
    return "–" if value is None else format(value, form)


def outcome_of(job: Job) -> dict[str, Any]:
    """What a job of this page came to: its result lines, and the path it wrote, if that is there."""
    out = output_of(job)
    return {"lines": list(lines_of(job)), "out": out if out is not None and out.exists() else None}
