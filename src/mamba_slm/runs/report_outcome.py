"""Sections of the report card about what came out: verdict, result, plan, loss, speed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from statistics import fmean, median

from mamba_slm.core.units import format_bytes, format_count, format_seconds
from mamba_slm.runs.before_after import written
from mamba_slm.runs.curve import bucket_means, sparkline
from mamba_slm.runs.evidence import Evidence, Row, number, section
from mamba_slm.runs.markdown import cell, fenced, markdown_table

MODEL = "model"
SAME = 0.0005  # bits per byte: below what three printed decimals show
CURVE_WIDTH = 60
TABLE_ROWS = 10
EVENTS = 20
EVENT_CHARACTERS = 300
UNKNOWN = "–"
PLANNED_ONLY = {"tokens_per_second", "cost_usd"}
"""Shown beside the plan where there was one; the section about speed has the rate in any case."""
SYMBOLS = {"good": "✓", "warning": "⚠", "bad": "✗"}


def headline(evidence: Evidence) -> str:
    """One sentence: size, tokens, time, machine."""
    parameters = actual(evidence, "parameters") or number(evidence.estimate, "parameters")
    pattern = str(section(evidence.config, "model").get("pattern") or "")
    kind = "hybrid" if {"M", "*"} <= set(pattern) else "model"
    words = [f"A {format_count(parameters)}-parameter {kind}" if parameters else f"A {kind} of unrecorded size"]
    tokens, seconds = actual(evidence, "tokens"), actual(evidence, "seconds")
    words.append(f"{format_count(tokens)} training tokens" if tokens else "no training step recorded")
    if seconds:
        words.append(format_seconds(seconds))
    hardware = evidence.record.hardware if evidence.record else {}
    processor = ", ".join(gpu_names(evidence)) or hardware.get("processor")
    if processor:
        cores = hardware.get("cores")
        words.append(f"{processor} ({cores} cores)" if cores and not gpu_names(evidence) else str(processor))
    return cell(", ".join(words) + ".")


def gpu_names(evidence: Evidence) -> list[str]:
    """The GPUs that the record names."""
    names = evidence.record.hardware.get("gpus") if evidence.record else None
    return list(map(str, names)) if isinstance(names, list) else []


def verdict(evidence: Evidence) -> str:
    """What a reader must know first, one line each."""
    return "\n".join(f"- {SYMBOLS[tone]} {cell(text)}" for tone, text in judgements(evidence))


def judgements(evidence: Evidence) -> list[tuple[str, str]]:
    """What a reader must know first: tone (good, warning, bad) and plain text."""
    lines = [ending(evidence), *numerical_health(evidence), *overfitting(evidence), *against_plan(evidence)]
    return [*lines, *(against_before(evidence) if evidence.is_tuned else [against_baselines(evidence)])]


def against_before(evidence: Evidence) -> list[tuple[str, str]]:
    """What became of each held-out measure of a model that was trained before."""
    tones = {"better": "good", "worse": "bad"}
    lines = [
        (
            tones.get(change.verdict, "warning"),
            f"{change.name}: {written(change.before, None, change.unit)} → {written(change.after, None, change.unit)} "
            f"({change.verdict})",
        )
        for change in evidence.held_out_changes
    ]
    return lines or [("warning", "nothing was measured on held-out examples before and after")]


def ending(evidence: Evidence) -> tuple[str, str]:
    """How the run ended, or that it has not."""
    status = evidence.status
    if status is None:
        return "warning", "how far it came is unknown: there is no readable `status.json`"
    why = f": {status.message}" if status.message else ""
    step = f"step {status.step:,}"
    if status.state == "done":
        return "good", f"finished at {step}{why}"
    if status.state == "running":
        seen = f"{datetime.fromtimestamp(status.heartbeat, UTC):%Y-%m-%d %H:%M:%S} UTC"
        return "warning", f"not finished: at {step} when last heard of, {seen}{why}"
    return ("warning", f"stopped at {step}{why}") if status.state == "stopped" else ("bad", f"failed at {step}{why}")


def numerical_health(evidence: Evidence) -> list[tuple[str, str]]:
    """Losses that were not finite, divergence and spikes."""
    kinds = [row.get("event") for row in evidence.events]
    broken = [row["step"] for row in evidence.train if number(row, "loss") is None]
    lines = []
    if broken:
        lines.append(("bad", f"the loss was NaN or infinite at {plural(len(broken), 'step')}, first {broken[0]:,}"))
    if "diverged" in kinds:
        lines.append(("bad", "it diverged: see what happened below"))
    if "spike" in kinds:
        lines.append(("warning", f"{plural(kinds.count('spike'), 'loss spike')}: see what happened below"))
    if not lines and evidence.train:
        lines.append(("good", "every recorded loss is finite, no spike"))
    return lines


def overfitting(evidence: Evidence) -> list[tuple[str, str]]:
    """Whether the validation loss rose again."""
    rows = [row for row in evidence.validation if number(row, "loss") is not None]
    if len(rows) < 2:
        return []
    best, last = min(rows, key=lambda row: row["loss"]), rows[-1]
    if last["loss"] <= best["loss"] * 1.005:
        return [("good", f"validation loss ends at its best, {last['loss']:.3f}")]
    return [
        ("warning", f"validation loss was {best['loss']:.3f} at step {best['step']:,} and ends at {last['loss']:.3f}")
    ]


def against_plan(evidence: Evidence) -> list[tuple[str, str]]:
    """Whether the planned number of tokens was reached."""
    planned, real = number(evidence.estimate, "tokens"), actual(evidence, "tokens")
    if not planned or real is None:
        return []
    share = real / planned
    text = f"{format_count(real)} of {format_count(planned)} planned tokens ({share:.0%})"
    return [("good" if share >= 0.95 else "warning", text)]


def against_baselines(evidence: Evidence) -> tuple[str, str]:
    """Which baselines the model beats and which it does not."""
    own, others = model_and_baselines(evidence)
    if own is None:
        return "warning", "not evaluated: nothing to compare with the baselines"
    if not others:
        return "warning", f"{own:.3f} bits per byte, and no baseline was measured"
    beaten = [row["name"] for row in others if own < row["bits_per_byte"] - SAME]
    rest = [row["name"] for row in others if own >= row["bits_per_byte"] - SAME]
    text = f"{own:.3f} bits per byte: beats {len(beaten)} of {plural(len(others), 'baseline')}"
    text += f" ({'; '.join(beaten)})" if beaten else ""
    text += f"; does not beat {'; '.join(rest)}" if rest else ""
    return "good" if not rest else "warning" if beaten else "bad", text


def missing(evidence: Evidence) -> str:
    """The files that are absent or damaged."""
    return "\n".join(f"- {problem}" for problem in evidence.problems)


def what_happened(evidence: Evidence) -> str:
    """The last events: spikes, overflows, damaged checkpoints."""
    rows = [
        [
            shown(number(row, "step"), "{:,}".format),
            str(row.get("event", UNKNOWN)),
            str(row.get("text", ""))[:EVENT_CHARACTERS],
        ]
        for row in evidence.events[-EVENTS:]
    ]
    if not rows:
        return ""
    earlier = len(evidence.events) - len(rows)
    table = markdown_table(["after step", "event", ""], rows, right=["after step"])
    return table + (f"\n\n{plural(earlier, 'earlier event')} in `events.jsonl`." if earlier else "")


def result_table(evidence: Evidence) -> str:
    """Bits per byte of the model and of the baselines, best first, with how each was measured."""
    if not evidence.evaluation and evidence.is_tuned:
        return ""
    if not evidence.evaluation:
        rows = [row for row in evidence.validation if number(row, "bits_per_byte") is not None]
        if not rows:
            return "Not evaluated."
        last = rows[-1]
        bits = f"{last['bits_per_byte']:.3f} bits per byte at step {last['step']:,}"
        return f"Not evaluated beside baselines. The last validation: {bits}."
    own, _ = model_and_baselines(evidence)
    rows = []
    for row in sorted(evidence.evaluation, key=lambda row: row["bits_per_byte"]):
        bits, is_model = row["bits_per_byte"], row["name"] == MODEL
        name = "this model" if is_model else str(row["name"])
        shown = f"{bits:.3f}"
        rows.append(
            [
                f"**{name}**" if is_model else name,
                f"**{shown}**" if is_model else shown,
                UNKNOWN if is_model else compared(own, bits),
            ]
        )
    parts = [markdown_table(["", "bits per byte", "this model beside it"], rows, right=["bits per byte"])]
    sizes = sorted({int(size) for row in evidence.evaluation if (size := number(row, "bytes")) is not None})
    if len(sizes) == 1:
        parts.append(f"Less is better. All on the same {sizes[0]:,} held-out bytes.")
    elif sizes:
        parts.append(
            "Less is better. ⚠ The rows were measured on different bytes and do not compare: see `evaluation.json`."
        )
    explained = [f"- {cell(row['name'])}: {cell(str(row['how']))}" for row in evidence.evaluation if row.get("how")]
    if explained:
        parts.append("How it was measured:\n\n" + "\n".join(explained))
    return "\n\n".join(parts)


def compared(own: float | None, bits: float) -> str:
    """How the model's bits per byte stand to a baseline's, in words."""
    if own is None:
        return UNKNOWN
    if abs(own - bits) <= SAME:
        return "the same"
    return f"✓ {1 - own / bits:.1%} better" if own < bits else f"✗ {own / bits - 1:.1%} worse"


def model_and_baselines(evidence: Evidence) -> tuple[float | None, list[Row]]:
    """The model's bits per byte (None when it was not measured) and the other rows."""
    own = next((row["bits_per_byte"] for row in evidence.evaluation if row["name"] == MODEL), None)
    return own, [row for row in evidence.evaluation if row["name"] != MODEL]


def plan_and_outcome(evidence: Evidence) -> str:
    """What was estimated beside what happened."""
    formats = {
        "time": ("seconds", format_seconds),
        "training tokens": ("tokens", format_count),
        "memory": ("memory_bytes", format_bytes),
        "parameters": ("parameters", format_count),
        "tokens/s": ("tokens_per_second", "{:,.0f}".format),
        "cost, at the planned price per hour": ("cost_usd", "${:,.2f}".format),
    }
    rows = []
    for name, (key, shown) in formats.items():
        planned, real = number(evidence.estimate, key), came_to(evidence, key)
        if planned is None and (real is None or key in PLANNED_ONLY):
            continue
        change = f"{real / planned - 1:+.0%}" if planned and real is not None else UNKNOWN
        rows.append([name, *(UNKNOWN if value is None else shown(value) for value in (planned, real)), change])
    if not rows:
        return "Neither a plan nor an outcome is recorded."
    table = markdown_table(["", "planned", "real", "difference"], rows, right=["planned", "real", "difference"])
    return (
        table if evidence.result else table + "\n\nReal: so far, from `metrics.jsonl`; the run has recorded no result."
    )


def came_to(evidence: Evidence, key: str) -> float | None:
    """`actual`; of tokens per second the median of the steps, of the cost what the time cost at the planned price."""
    if key == "tokens_per_second":
        speeds = [speed for speed in evidence.measured(key) if speed]
        return median(speeds) if speeds else None
    if key == "cost_usd":
        planned, seconds = number(evidence.estimate, "seconds"), actual(evidence, "seconds")
        cost = number(evidence.estimate, "cost_usd")
        return cost * seconds / planned if cost and planned and seconds is not None else None
    return actual(evidence, key)


def actual(evidence: Evidence, key: str) -> float | None:
    """What the run recorded as its result, else what its metrics show so far."""
    if (value := number(evidence.result, key)) is not None:
        return value
    return max(evidence.measured(key), default=None)


def loss_curve(evidence: Evidence) -> str:
    """Sparklines of training and validation loss, and a table."""
    train = [row for row in evidence.train if number(row, "loss") is not None]
    validation = [row for row in evidence.validation if number(row, "loss") is not None]
    if not train and not validation:
        return "No step is recorded yet."
    lines = []
    for name, rows in (("training", train), ("validation", validation)):
        if rows:
            losses = [row["loss"] for row in rows]
            lines.append(
                f"{name:<10}  {losses[0]:7.3f} {sparkline(bucket_means(losses, CURVE_WIDTH))} {losses[-1]:.3f}"
            )
    return fenced("\n".join(lines)) + "\n\n" + loss_table(train, validation)


LOSS_HEADER = ["step", "tokens", "time", "mean loss", "highest", "validation", "learning rate", "grad norm", "tokens/s"]


def loss_table(train: Sequence[Row], validation: Sequence[Row]) -> str:
    """The rows of `loss_rows` as Markdown."""
    return markdown_table(LOSS_HEADER, loss_rows(train, validation), right=LOSS_HEADER)


def loss_rows(train: Sequence[Row], validation: Sequence[Row]) -> list[list[str]]:
    """The first step, then stretches of equal length: mean and highest loss of each, the rest at its end."""
    rest = train[1:]
    count = min(TABLE_ROWS, len(rest))
    cuts = [i * len(rest) // count for i in range(count + 1)] if count else []
    stretches = [train[:1], *(rest[a:b] for a, b in itertools.pairwise(cuts))] if train else []
    rows, begin = [], -1
    for stretch in stretches:
        last, losses = stretch[-1], [row["loss"] for row in stretch]
        measured = [row["loss"] for row in validation if begin < row["step"] <= last["step"]]
        begin = last["step"]
        speeds = [speed for row in stretch if (speed := number(row, "tokens_per_second")) is not None]
        rows.append(
            [
                f"{last['step']:,}",
                shown(number(last, "tokens"), format_count),
                shown(number(last, "seconds"), format_seconds),
                f"{fmean(losses):.3f}",
                f"{max(losses):.3f}",
                f"{measured[-1]:.3f}" if measured else UNKNOWN,
                shown(number(last, "learning_rate"), "{:.2e}".format),
                shown(number(last, "grad_norm"), "{:.2f}".format),
                f"{median(speeds):,.0f}" if speeds else UNKNOWN,
            ]
        )
    return rows


def speed(evidence: Evidence) -> str:
    """Tokens per second, utilisation, memory."""
    rows = speed_rows(evidence)
    return markdown_table(["", "measured"], rows, right=["measured"]) if rows else "Nothing measured yet."


def speed_rows(evidence: Evidence) -> list[list[str]]:
    """What was measured about speed and memory, with its value."""
    rows = []
    speeds = [value for value in evidence.measured("tokens_per_second") if value]
    if speeds:
        rows.append(["tokens/s of a training step, median", f"{median(speeds):,.0f}"])
        rows.append(["slowest and fastest step", f"{min(speeds):,.0f} to {max(speeds):,.0f}"])
    tokens, seconds = actual(evidence, "tokens"), actual(evidence, "seconds")
    if tokens and seconds:
        rows.append(["tokens/s of the whole run, with saving and measuring", f"{tokens / seconds:,.0f}"])
    used = evidence.measured("mfu")
    if used:
        rows.append(["model FLOP/s as a share of the machine's peak (MFU), median", f"{median(used):.1%}"])
    memory = actual(evidence, "memory_bytes")
    if memory:
        rows.append(["highest memory", format_bytes(memory)])
    return rows


def plural(count: int, noun: str) -> str:
    """`1 step`, `2 steps`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def shown(value: float | None, write: Callable[[float], str]) -> str:
    """The value as `write` writes it, or a dash."""
    return UNKNOWN if value is None else write(value)
