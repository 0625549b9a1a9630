"""What the original documents name: scripts, flags, files, settings, features. They are not in this repository.

Where they are lies beside it; a machine without them checks the table against itself only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
BESIDE = REPOSITORY.parent / "shared"
NAMES = ("enhancements", "readme", "roadmap", "summary", "workflow-68M-demo")
NOT_NAMES = {"DeepSpeed", "HuggingFace", "LoRA", "PyQt6", "PyTorch", "RoPE", "WikiText"}
PIPELINE = {"Download", "Quality filtering", "Tokenization", "Total", "Storage"}
"""Hours of the data's pipeline, which the roadmap page recalculates."""
SCRIPT = r"[\w.]+\.py"
FLAG = r"(?<![\w-])--[a-z][a-z0-9_]*"
FILES = r"(?<![\w./{}])(\w[\w-]*\.(?:py|ipynb|md|json|txt|bin|safetensors|onnx))\b"
TABLES = ("Training Hyperparameters", "Standard Benchmarks", "Curated Mixture", "4 Production Model Sizes")


def folder() -> Path | None:
    """The folder of the documents; None where they are absent."""
    found = sorted(path.parent for path in BESIDE.glob(f"*/{NAMES[-1]}.md"))
    return found[0] if found else None


@dataclass
class Named:
    """Everything that a table of the originals must have."""

    flags: set[tuple[str, str]] = field(default_factory=set)
    """(script, flag); a flag that stands alone, as advice does, has the script `advice`."""
    edits: set[str] = field(default_factory=set)
    """`zero_stage=3` of "Edit production_training.py: zero_stage=3"."""
    files: set[str] = field(default_factory=set)
    """Scripts, notebooks and other files."""
    programs: set[str] = field(default_factory=set)
    """Other programs and environment variables of commands: `nvidia-smi`, `MASTER_ADDR`."""
    python: set[str] = field(default_factory=set)
    """Names that are imported or called."""
    settings: set[str] = field(default_factory=set)
    """Keys of the DeepSpeed file, rows of tables (hyperparameters, benchmarks, sources, sizes), training configs,
    quality filters and what is monitored."""
    features: set[str] = field(default_factory=set)
    """What the enhancements and the summary list as done."""

    def all(self) -> set[str]:
        """One key for each: as `Row.originals` has them."""
        flags = {f"{script} {flag}" for script, flag in self.flags}
        return flags | self.edits | self.files | self.programs | self.python | self.settings | self.features


def named_in(texts: dict[str, str]) -> Named:
    """Extract from the documents, by name."""
    found = Named()
    for text in texts.values():
        for line in commands(text):
            add_command(found, line)
        found.edits |= set(re.findall(rf"Edit {SCRIPT}: (\w+=\w+)", text))
        found.files |= set(re.findall(FILES, text))
        for block in re.findall(r"```json\n(.*?)```", text, flags=re.DOTALL):
            found.settings |= set(re.findall(r'"(\w+)":', block))
        for module, names in re.findall(r"^from (\w+) import (\w+)", text, flags=re.MULTILINE):
            found.python |= {names}
            found.files.add(f"{module}.py")
        found.python |= set(re.findall(r"evaluator\.(\w+)\(", text))
        found.python |= set(re.findall(r"(?:├──|└──|- ) ?([A-Z][a-z]+[A-Z]\w+|RotaryEmbedding)\b", text)) - NOT_NAMES
        found.settings |= set(re.findall(r"\b(?:quick_test|[a-z]+_scale)\b", text))
        for heading, rows in tables(text):
            if heading.startswith(TABLES):
                found.settings |= rows - {"TOTAL"}
    filters = texts["roadmap"].partition("### Quality Filters")[2].partition("###")[0]
    found.settings |= set(re.findall(r"^\d\. \*\*(.+?)\*\*", filters, flags=re.MULTILINE))
    watched = texts["roadmap"].partition("# Prometheus + Grafana")[2].partition("```")[0]
    found.settings |= {
        re.sub(r"\s*\(.*?\)", "", line) for line in re.findall(r"^# - (.+)$", watched, flags=re.MULTILINE)
    }
    found.features = set(features(texts["enhancements"])) | set(listed(texts["summary"]))
    return found


def commands(text: str) -> Iterator[str]:
    """The lines of the code blocks of a shell, with continued lines joined. A block of Python may hold flags, too."""
    for block in re.findall(r"```(?:bash|python)\n(.*?)```", text, flags=re.DOTALL):
        yield from re.sub(r"\s*\\\n\s*", " ", block).splitlines()
    yield from re.findall(r"`(python [^`\n]+)`", text)


def add_command(found: Named, line: str) -> None:
    """Script and flags of one line, or the other program that it calls."""
    line = line.strip()
    if line.startswith("#"):
        return
    if exported := re.match(r"export (\w+)=", line):
        found.programs.add(exported[1])
    elif script := re.search(rf"(?:^|\s)({SCRIPT})(?=\s|$)", line):
        before, after = line[: script.start()], line[script.end() :]
        found.files.add(script[1])
        found.flags |= {(script[1], flag) for flag in re.findall(FLAG, after)}
        found.flags |= {("deepspeed", flag) for flag in re.findall(FLAG, before)}
    elif line.startswith("--"):
        found.flags |= {("advice", flag) for flag in re.findall(FLAG, line)}
    elif program := re.match(r"(nvidia-smi|pip|git|python -m venv|source)\b", line):
        found.programs.add(program[1])
        if program[1] == "pip":
            found.programs |= set(re.findall(r"\s([a-z][\w-]+)(?:==[\d.]+)?(?=\s|$)", line)) - {"install"}


def tables(text: str) -> Iterator[tuple[str, set[str]]]:
    """Heading and bold first cells of each table."""
    for part in re.split(r"^#+ ", text, flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        if rows := re.findall(r"^\| \*\*(.+?)\*\* \|", body, flags=re.MULTILINE):
            yield heading.strip(), set(rows)


def features(text: str) -> Iterator[str]:
    """The points under the numbered headings of the enhancements, without emphasis and remarks in brackets."""
    for part in re.findall(r"^### \d+\. .*?(?=^##|\Z)", text, flags=re.MULTILINE | re.DOTALL):
        for point in re.findall(r"^- (.+)$", part, flags=re.MULTILINE):
            yield re.sub(r"\s*\(.*?\)", "", point.replace("*", "")).strip()


def listed(text: str) -> Iterator[str]:
    """The points of the summary's first four sections, up to a colon or a bracket."""
    sections = text.partition("### 1.")[2].partition("### 5.")[0]
    for point in re.findall(r"^- +(.+)$", sections, flags=re.MULTILINE):
        name = re.split(r"[:(]", point.replace("*", ""))[0].strip()
        if name not in PIPELINE:
            yield name


def read() -> dict[str, str]:
    """The documents by name.

    Raises:
        FileNotFoundError: they are not here.
    """
    where = folder()
    if where is None:
        raise FileNotFoundError("the original documents are not beside the repository")
    return {name: (where / f"{name}.md").read_text(encoding="utf-8") for name in NAMES}
