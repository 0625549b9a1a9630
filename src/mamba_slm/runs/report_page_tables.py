"""What the report page says in words and tables: figures, comparison, plan, data, settings, environment, commands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from mamba_slm.core.units import format_bytes, format_count, format_seconds
from mamba_slm.runs.before_after import written
from mamba_slm.runs.evidence import Evidence, Row, number, row_list, section
from mamba_slm.runs.redact import shell_line
from mamba_slm.runs.report_background import SUBLAYERS, amounts
from mamba_slm.runs.report_outcome import (
    MODEL,
    UNKNOWN,
    actual,
    came_to,
    compared,
    gpu_names,
    model_and_baselines,
    plural,
    shown,
)
from mamba_slm.runs.summary import flat_settings

CLOSE = 0.05
"""A deviation from the plan below this is called as planned."""

MAX_CELLS = 400
CELL_KINDS = {"M": "mamba", "*": "attention", "-": "feed-forward"}


@dataclass(frozen=True, kw_only=True)
class SettingsFacts:
    """What follows from the settings of a run, and only the folders above know: defaults, sizes."""

    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Dotted name of a setting → its value when nobody sets it."""

    defaults_of: str = ""
    """Whose defaults these are."""

    parameters: Mapping[str, int] = field(default_factory=dict)
    """Part of the model → parameters."""

    context_memory: tuple[tuple[int, int, int], ...] = ()
    """Context in tokens, bytes of one conversation, bytes with attention in place of every Mamba-2 layer."""


def key_figures(evidence: Evidence) -> list[tuple[str, str, str]]:
    """Label, value and a note for the row of large numbers."""
    figures = [result_figure(evidence)]
    parameters = actual(evidence, "parameters") or number(evidence.estimate, "parameters")
    pattern = str(section(evidence.config, "model").get("pattern") or "")
    figures.append(("parameters", shown(parameters, format_count), counted_sublayers(pattern)))
    tokens, seconds = actual(evidence, "tokens"), actual(evidence, "seconds")
    passes = passes_over_sources(evidence)
    figures.append(
        (
            "training tokens",
            shown(tokens, format_count),
            f"{passes_text(passes)} passes over the text" if passes else "",
        )
    )
    steps = evidence.train[-1]["step"] if evidence.train else 0
    figures.append(("time", shown(seconds, format_seconds), plural(steps, "step") if steps else "no step yet"))
    speeds, used = evidence.measured("tokens_per_second"), evidence.measured("mfu")
    figures.append(
        ("tokens/s", f"{median(speeds):,.0f}" if speeds else UNKNOWN, f"MFU {median(used):.0%}" if used else "median")
    )
    memory, has = actual(evidence, "memory_bytes"), number(hardware(evidence), "memory_bytes")
    note = f"of {format_bytes(has)} in the machine" if has and not gpu_names(evidence) else "at most"
    figures.append(("memory", shown(memory, format_bytes), note))
    return figures


def result_figure(evidence: Evidence) -> tuple[str, str, str]:
    """Bits per byte of the model, from the evaluation or else from the last validation."""
    own, others = model_and_baselines(evidence)
    if own is None and evidence.held_out_changes:
        change = evidence.held_out_changes[0]
        before, after = (written(value, None, change.unit) for value in (change.before, change.after))
        return change.name, after, f"{before} before"
    if own is not None:
        best = min(others, key=lambda row: row["bits_per_byte"], default=None)
        note = f"best baseline {best['bits_per_byte']:.3f}" if best else "no baseline was measured"
        return "bits per byte", f"{own:.3f}", note
    values = [value for row in evidence.validation if (value := number(row, "bits_per_byte")) is not None]
    return (
        ("bits per byte", f"{values[-1]:.3f}", "validation only")
        if values
        else ("bits per byte", UNKNOWN, "not evaluated")
    )


def comparison(evidence: Evidence) -> list[dict[str, Any]]:
    """The model beside its baselines, best first."""
    own, _ = model_and_baselines(evidence)
    rows = sorted(evidence.evaluation, key=lambda row: row["bits_per_byte"])
    largest = max((row["bits_per_byte"] for row in rows), default=1.0)
    return [
        {
            "name": "this model" if row["name"] == MODEL else row["name"],
            "is_model": row["name"] == MODEL,
            "bits": f"{row['bits_per_byte']:.3f}",
            "width": f"{100 * row['bits_per_byte'] / largest:.2f}%",
            "beside": "" if row["name"] == MODEL else compared(own, row["bits_per_byte"]),
            "how": str(row.get("how") or ""),
        }
        for row in rows
    ]


def measured_bytes(evidence: Evidence) -> list[int]:
    """On how many bytes the rows of the comparison were measured; more than one number means they do not compare."""
    return sorted({int(size) for row in evidence.evaluation if (size := number(row, "bytes")) is not None})


def plan_rows(evidence: Evidence) -> list[dict[str, Any]]:
    """Estimate beside outcome: texts, the deviation as a share, and what to make of it in words."""
    keys = ("seconds", "tokens", "memory_bytes", "parameters", "tokens_per_second", "cost_usd")
    outcome = {key: came_to(evidence, key) for key in keys}
    outcome["steps"] = evidence.train[-1]["step"] if evidence.train else None
    names = {
        "seconds": ("time", format_seconds),
        "tokens": ("training tokens", format_count),
        "steps": ("steps", "{:,.0f}".format),
        "tokens_per_second": ("tokens/s, median of the steps", "{:,.0f}".format),
        "memory_bytes": ("memory", format_bytes),
        "parameters": ("parameters", format_count),
        "cost_usd": ("cost, at the planned price per hour", "${:,.2f}".format),
    }
    rows = []
    for key, (name, write) in names.items():
        planned, real = number(evidence.estimate, key), outcome.get(key)
        if planned is None and real is None:
            continue
        deviation = real / planned - 1 if planned and real is not None else None
        rows.append(
            {
                "name": name, "planned": shown(planned, write), "real": shown(real, write), "deviation": deviation,
                "change": UNKNOWN if deviation is None else f"{deviation:+.0%}",
                "words": limit_in_words(deviation) if key in limits(evidence) else in_words(deviation),
            }
        )  # fmt: skip
    return rows


def limits(evidence: Evidence) -> set[str]:
    """What was set as the end of the run, so that meeting it says nothing about the estimate."""
    train = section(evidence.config, "train")
    ends = {"max_minutes": {"seconds"}, "max_tokens": {"tokens", "steps"}, "max_steps": {"tokens", "steps"}}
    return set().union(*(keys for name, keys in ends.items() if number(train, name) is not None))


def in_words(deviation: float | None) -> str:
    """A deviation from the plan in words.

    >>> in_words(0.305), in_words(-0.1), in_words(0.01), in_words(2.0)
    ('30% more than planned', '10% less than planned', 'as planned', '3.0 times the plan')
    """
    if deviation is None:
        return ""
    if abs(deviation) <= CLOSE:
        return "as planned"
    if deviation >= 1:
        return f"{1 + deviation:.1f} times the plan"
    return f"{abs(deviation):.0%} {'more' if deviation > 0 else 'less'} than planned"


def limit_in_words(deviation: float | None) -> str:
    """How the outcome stands to a limit.

    >>> limit_in_words(0.01), limit_in_words(0.37), limit_in_words(-0.5)
    ('a limit that was set, not a prediction', 'a limit that was set; 37% over it', 'a limit that was set; not reached')
    """
    if deviation is None or abs(deviation) <= CLOSE:
        return "a limit that was set, not a prediction"
    return f"a limit that was set; {f'{deviation:.0%} over it' if deviation > 0 else 'not reached'}"


def data_rows(evidence: Evidence) -> list[dict[str, Any]]:
    """The sources, then the held-out text."""
    sources = row_list(evidence.data, "sources")
    total = sum(number(source, "tokens") or 0 for source in sources)
    rows = []
    for source in sources:
        documents, size, tokens = amounts(source)
        own = number(source, "tokens")
        rows.append(
            {
                "name": str(source.get("name", UNKNOWN)), "documents": documents, "bytes": size, "tokens": tokens,
                "share": f"{own / total:.0%}" if own and total else UNKNOWN,
                "weight": shown(number(source, "weight"), "{:g}".format),
                "licence": str(source.get("licence") or source.get("license") or "not recorded"),
                "path": str(source.get("path") or UNKNOWN), "held_out": False,
            }
        )  # fmt: skip
    held_out = section(evidence.data, "held_out")
    if held_out:
        documents, size, tokens = amounts(held_out)
        rows.append(
            {
                "name": "held out, never trained on", "documents": documents, "bytes": size, "tokens": tokens,
                "share": "", "weight": "", "licence": "", "path": "", "held_out": True,
            }
        )  # fmt: skip
    return rows


def passes_over_sources(evidence: Evidence) -> float | None:
    """Training tokens over the tokens of all sources."""
    available = sum(number(source, "tokens") or 0 for source in row_list(evidence.data, "sources"))
    trained = actual(evidence, "tokens")
    return trained / available if available and trained else None


def passes_text(passes: float) -> str:
    """How often the text was seen.

    >>> passes_text(0.126), passes_text(1877.3)
    ('0.13', '1,877')
    """
    return f"{passes:.2f}" if passes < 100 else f"{passes:,.0f}"


def tokenizer_facts(evidence: Evidence) -> list[tuple[str, str]]:
    """What is known of the tokenizer."""
    tokenizer = section(evidence.data, "tokenizer")
    facts = [
        ("vocabulary", shown(number(tokenizer, "vocab_size"), "{:,.0f} tokens".format)),
        ("compression", shown(number(tokenizer, "bytes_per_token"), "{:.2f} bytes per token".format)),
        ("fingerprint", str(tokenizer.get("fingerprint") or UNKNOWN)),
    ]
    return [(name, value) for name, value in facts if value != UNKNOWN]


def strip(evidence: Evidence) -> list[tuple[str, str, str]]:
    """One cell per sublayer, from the embedding up: letter, class, name; unknown letters are left out."""
    pattern = str(section(evidence.config, "model").get("pattern") or "")[:MAX_CELLS]
    return [(letter, CELL_KINDS[letter], SUBLAYERS[letter]) for letter in pattern if letter in CELL_KINDS]


def counted_sublayers(pattern: str) -> str:
    """How many sublayers of each kind.

    >>> counted_sublayers("M-*-M-")
    '2 Mamba-2, 1 attention, 3 feed-forward'
    """
    return ", ".join(f"{pattern.count(letter)} {name}" for letter, name in SUBLAYERS.items() if letter in pattern)


def parameter_rows(facts: SettingsFacts) -> list[dict[str, str]]:
    """Parameters by part, with their share."""
    total = sum(facts.parameters.values())
    return [
        {"name": name.replace("_", " "), "count": f"{count:,}", "share": f"{count / total:.1%}"}
        for name, count in facts.parameters.items()
        if count
    ]


def settings_rows(evidence: Evidence, facts: SettingsFacts) -> list[dict[str, Any]]:
    """Every setting: name, value, default, and whether they differ (None where the default is not known)."""
    rows = []
    for name, value in flat_settings(evidence.config).items():
        if name == "format_version":
            continue
        known = name in facts.defaults
        default = facts.defaults.get(name)
        rows.append(
            {
                "name": name, "value": plain(value), "default": plain(default) if known else UNKNOWN,
                "differs": plain(value) != plain(default) if known else None,
            }
        )  # fmt: skip
    return rows


def plain(value: Any) -> str:
    """A setting's value as one would write it.

    >>> plain(None), plain(True), plain(["a", "b "]), plain([]), plain(1e-05)
    ('none', 'true', "a, 'b '", 'none', '1e-05')
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ", ".join(item_text(item) for item in value) or "none"
    return str(value)


def environment(evidence: Evidence) -> list[tuple[str, str]]:
    """What it ran on and with."""
    record, found = evidence.record, hardware(evidence)
    train = section(evidence.config, "train")
    peak = section(found, "peak")
    rate = number(peak, "flops_per_second")
    facts: list[tuple[str, Any]] = [
        ("started", record.created if record else None),
        ("processor", found.get("processor")),
        ("cores", found.get("cores")),
        ("threads", found.get("threads")),
        ("memory", shown(number(found, "memory_bytes"), format_bytes)),
        ("GPUs", ", ".join(gpu_names(evidence))),
        ("peak", f"{rate / 1e9:,.0f} GFLOP/s {peak.get('precision', '')} ({peak.get('how', '')})" if rate else None),
        ("system", " ".join(str(found[key]) for key in ("system", "architecture") if found.get(key))),
        ("device and precision", " ".join(str(train[key]) for key in ("device", "precision") if train.get(key))),
        ("seed", train.get("seed")),
        *(record.versions.items() if record else ()),
    ]
    if record and record.git:
        changed = ", with local changes that are not recorded" if record.git.get("dirty") else ""
        facts.append(("source", f"commit {record.git.get('commit')}{changed}"))
    return [(name, str(value)) for name, value in facts if value not in (None, "", UNKNOWN)]


def hardware(evidence: Evidence) -> Row:
    """The record's machine; empty without a record."""
    return evidence.record.hardware if evidence.record else {}


def commands(evidence: Evidence) -> list[tuple[str, str]]:
    """What to type to run it again, go on, or use it: a sentence and a command for each."""
    record, name = evidence.record, shell_line([evidence.run.name])
    found: list[tuple[str, str]] = []
    if record and record.git and record.git.get("commit"):
        found.append(("The same source, in a clone of the repository:", f"git checkout {record.git['commit']}"))
    if record and record.command:
        found.append(("The command that started it:", shell_line(record.command)))
    if section(evidence.config, "train") and not (record and record.kind == "quickstart"):
        found.append(
            ("The same settings, from this folder:", f"mamba-slm train --config {name}/config.yaml --out {name}-again")
        )
    if evidence.status is not None and evidence.status.state != "done":
        found.append(("To go on where it stopped:", f"mamba-slm runs resume {name}"))
    if (evidence.run.path / "model").is_dir():
        found.append(("To talk to it:", f"mamba-slm chat {name}"))
    found.append(("To write this page again:", f"mamba-slm report {name}"))
    return found


def conditions(evidence: Evidence) -> list[str]:
    """What decides whether the same comes out again."""
    train, found = section(evidence.config, "train"), hardware(evidence)
    texts = []
    threads = f", with {found['threads']} threads" if found.get("threads") else ""
    torch = (evidence.record.versions.get("torch") if evidence.record else None) or "the same version"
    texts.append(f"The same bits come back only on the same kind of machine{threads}, and with torch {torch}.")
    minutes = number(train, "max_minutes")
    if minutes is not None:
        steps = f": it took {evidence.train[-1]['step']:,} steps here" if evidence.train else ""
        texts.append(
            f"This run's length was a time ({minutes:g} minutes), and its learning rate followed the clock, "
            f"so another machine takes another number of steps{steps}."
        )
    if evidence.record and evidence.record.git and evidence.record.git.get("dirty"):
        texts.append("The source had local changes that are not recorded.")
    return texts


def item_text(item: Any) -> str:
    """An item of a list, in quotes where one could not see where it begins and ends."""
    return repr(item) if isinstance(item, str) and (not item or item != item.strip() or "," in item) else plain(item)
