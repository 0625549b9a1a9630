"""Sections of the report card about what went in: samples, data, model, how to do it again, files."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from mamba_slm.core.units import format_bytes, format_count
from mamba_slm.runs.evidence import Evidence, Row, number, row_list, section
from mamba_slm.runs.markdown import fenced, inline_code, markdown_table
from mamba_slm.runs.redact import shell_line
from mamba_slm.runs.report_outcome import UNKNOWN, actual, gpu_names, plural, shown

SAMPLED_STEPS = 5
SAMPLED_PROMPTS = 4
SAMPLE_CHARACTERS = 400
SUBLAYERS = {"M": "Mamba-2", "*": "attention", "-": "feed-forward"}
NOT_LISTED = {"report.md", "report.html", "lock.json", "control"}
"""The cards themselves, and what comes and goes with the owner."""


def title(evidence: Evidence) -> str:
    """The run's name."""
    return evidence.record.id if evidence.record else evidence.run.name


def samples(evidence: Evidence) -> str:
    """What the model said to each prompt at the first, some middle and the last sampled step."""
    if not evidence.samples:
        return "None were taken yet."
    prompts = list(dict.fromkeys(row["prompt"] for row in evidence.samples))
    parts = []
    for prompt in prompts[:SAMPLED_PROMPTS]:
        parts.append(f"Prompt {inline_code(prompt)}" if prompt else "Without a prompt")
        by_step = {row["step"]: row for row in evidence.samples if row["prompt"] == prompt}
        for row in spread([by_step[step] for step in sorted(by_step)], SAMPLED_STEPS):
            tokens = number(row, "tokens")
            seen = f", {format_count(tokens)} tokens" if tokens else ""
            text = row["text"]
            if len(text) > SAMPLE_CHARACTERS:
                text = text[:SAMPLE_CHARACTERS] + " …"
            parts.append(f"step {row['step']:,}{seen}:\n\n{fenced(text)}")
    if len(prompts) > SAMPLED_PROMPTS:
        parts.append(f"{plural(len(prompts) - SAMPLED_PROMPTS, 'more prompt')} in `samples.jsonl`.")
    return "\n\n".join(parts)


def spread(rows: Sequence[Row], count: int) -> list[Row]:
    """At most `count` of the rows, evenly spread, the first and the last among them."""
    if len(rows) <= count:
        return list(rows)
    return [rows[round(i * (len(rows) - 1) / (count - 1))] for i in range(count)]


def data(evidence: Evidence) -> str:
    """Where the text came from, how much, what was held out, and the tokenizer."""
    if not evidence.data:
        return "Not recorded."
    parts = []
    sources = row_list(evidence.data, "sources")
    if sources:
        rows = [
            [str(source.get("name", UNKNOWN)), *amounts(source), str(source.get("path") or UNKNOWN)]
            for source in sources
        ]
        held_out = section(evidence.data, "held_out")
        if held_out:
            rows.append(["held out, never trained on", *amounts(held_out), UNKNOWN])
        header = ["source", "documents", "size", "tokens", "path"]
        parts.append(markdown_table(header, rows, right=header[1:4]))
        available = sum(number(source, "tokens") or 0 for source in sources)
        trained = actual(evidence, "tokens")
        if available and trained:
            parts.append(
                f"{format_count(trained)} training tokens are {trained / available:.2f} passes over the sources."
            )
    tokenizer = section(evidence.data, "tokenizer")
    if tokenizer:
        words = [f"{size:,} tokens" for key in ("vocab_size",) if (size := number(tokenizer, key))]
        words += [f"{rate:.2f} bytes per token" for key in ("bytes_per_token",) if (rate := number(tokenizer, key))]
        if tokenizer.get("fingerprint"):
            words.append(f"fingerprint {inline_code(str(tokenizer['fingerprint'])[:12])}")
        parts.append(f"Tokenizer: {', '.join(words) or 'not described'}.")
    return "\n\n".join(parts) or "Not recorded."


def amounts(source: Row) -> list[str]:
    """Documents, bytes and tokens of a source, each a dash when unknown."""
    return [
        shown(number(source, "documents"), "{:,}".format),
        shown(number(source, "bytes"), format_bytes),
        shown(number(source, "tokens"), format_count),
    ]


def model(evidence: Evidence) -> str:
    """Sublayers, parameters, and every setting of the model."""
    settings = section(evidence.config, "model")
    if not settings:
        return "Not recorded."
    pattern = str(settings.get("pattern") or "")
    counts = [f"{pattern.count(letter)} {name}" for letter, name in SUBLAYERS.items() if letter in pattern]
    parameters = actual(evidence, "parameters") or number(evidence.estimate, "parameters")
    size = f"{parameters:,.0f} parameters" if parameters else "number of parameters not recorded"
    parts = [
        f"{size}; sublayers from the embedding up: {inline_code(pattern)} ({', '.join(counts)})."
        if counts
        else f"{size}."
    ]
    rows = [[inline_code(str(key)), inline_code(str(value))] for key, value in settings.items() if key != "pattern"]
    parts.append(markdown_table(["setting", "value"], rows, right=["value"]))
    return "\n\n".join(parts)


def same_again(evidence: Evidence) -> str:
    """The command, and what it ran with."""
    record = evidence.record
    if record is None:
        return "The command was not recorded; the settings are in `config.yaml`."
    parts = [fenced(shell_line(record.command)) if record.command else "The command was not recorded."]
    facts = []
    if record.created:
        facts.append(f"started {record.created}")
    facts += [f"{name} {version}" for name, version in record.versions.items()]
    if record.git:
        changed = " with local changes" if record.git.get("dirty") else ""
        facts.append(f"source {inline_code(str(record.git.get('commit'))[:12])}{changed}")
    seed = section(evidence.config, "train").get("seed")
    if seed is not None:
        facts.append(f"seed {seed}")
    hardware = record.hardware
    machine = [str(hardware[key]) for key in ("processor", "architecture", "system") if hardware.get(key)]
    if hardware.get("cores"):
        machine.append(f"{hardware['cores']} cores")
    if memory := number(hardware, "memory_bytes"):
        machine.append(format_bytes(memory))
    machine += gpu_names(evidence)
    if machine:
        facts.append("machine: " + ", ".join(machine))
    if facts:
        parts.append("\n".join(f"- {fact}" for fact in facts))
    if evidence.status is not None and evidence.status.state != "done":
        parts.append(
            "To go on where it stopped:\n\n" + fenced(f"mamba-slm runs resume {shlex.quote(evidence.run.name)}")
        )
    return "\n\n".join(parts)


def files(evidence: Evidence) -> str:
    """What lies in the folder: files, checkpoints one by one, other folders as one line each."""
    rows = [[inline_code(name), format_bytes(size), marks] for name, size, marks in file_rows(evidence)]
    return markdown_table(["file", "size", ""], rows, right=["size"])


def file_rows(evidence: Evidence) -> list[tuple[str, int, str]]:
    """Name, bytes and marks (best, latest) of what lies in the folder."""
    run, rows = evidence.run, []
    checkpoints, best, latest = run.checkpoints(), run.best(), run.latest()
    for entry in sorted(run.path.iterdir()):
        if entry.name.startswith(".") or entry.name in NOT_LISTED or entry == run.checkpoints_folder:
            continue
        rows.append((entry.name + ("/" if entry.is_dir() else ""), size_bytes(entry), ""))
    for folder in checkpoints:
        marks = [word for word, marked in (("best", best), ("latest", latest)) if folder == marked]
        rows.append((f"checkpoints/{folder.name}/", size_bytes(folder), ", ".join(marks)))
    return rows


def size_bytes(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; links are not followed, what vanishes meanwhile counts nothing."""
    paths = [path]
    if path.is_dir() and not path.is_symlink():
        paths = [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
    total = 0
    for each in paths:
        with contextlib.suppress(FileNotFoundError):  # a running trainer prunes its checkpoints
            total += each.lstat().st_size
    return total
