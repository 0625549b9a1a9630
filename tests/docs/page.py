"""A page as what a reader would type: its fenced blocks in order, and what the page shows below each command.

Blocks of `bash`, `sh`, `shell` and `console` hold commands (in `console` only the lines after `$ `; what stands below
one is what it prints), `py` holds Python that needs the files of the page (```python runs without any, in
tests/promises/test_documents.py). Comments right above a block say more about it:

    <!-- not run: REASON -->             it cannot run here; its commands are parsed, and run with --dry-run if they can
    <!-- only parsed: REASON -->         the same, and not even that
    <!-- exit: 6 -->                     the last command of the block ends with this code
    <!-- compared: first and last -->    of what is shown; `nothing` where a model's own words are all there is
    <!-- file: strict.yaml -->           the block is the content of this file in the page's folder
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from promises.documents import REPOSITORY

SHELL = ("bash", "sh", "shell", "console")
FENCE = re.compile(
    r"(?P<notes>(?:^<!-- [^\n]* -->\n+)*)^```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^```", flags=re.MULTILINE | re.DOTALL
)
NOTE = re.compile(r"^<!-- (not run|only parsed|exit|compared|file): (.+?) -->$", flags=re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block and the notes above it."""

    line: int
    """Of the page, on which the fence opens."""
    language: str
    body: str
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def not_run(self) -> str | None:
        """The reason, if the page says that this cannot run here."""
        return self.notes.get("not run") or self.notes.get("only parsed")


@dataclass(frozen=True, kw_only=True)
class Command:
    """A line that a reader types."""

    text: str
    shown: tuple[str, ...]
    """The lines that the page shows below it."""
    block: Block
    line: int


def pages() -> list[Path]:
    """Whose commands run: README, the quick start, the guides, the concepts."""
    docs = REPOSITORY / "docs"
    found = [REPOSITORY / "README.md", docs / "quick-start.md", *(docs / "guides").glob("*.md")]
    return sorted(path for path in [*found, *(docs / "concepts").glob("*.md")] if path.is_file())


def stage_name(page: Path) -> str:
    """Which file of `stages/` prepares a page: docs/guides/long-context.md has long_context, concepts have a prefix."""
    name = page.stem.lower().replace("-", "_")
    return f"concept_{name}" if page.parent.name == "concepts" else name


def blocks(markdown: str) -> list[Block]:
    """Every fenced block of a page, in order."""
    return [
        Block(
            line=markdown[: found.start("language")].count("\n") + 1,
            language=found["language"],
            body=found["body"],
            notes=dict(NOTE.findall(found["notes"])),
        )
        for found in FENCE.finditer(markdown)
    ]


def commands(block: Block) -> list[Command]:
    """What is typed in a block; a `\\` at the end of a line continues it, a here-document belongs to its command."""
    if block.language not in SHELL:
        return []
    console = block.language == "console"
    found: list[tuple[int, str, list[str]]] = []
    waiting: str | None = None  # for the word that ends a here-document
    for number, line in enumerate(block.body.splitlines(), start=block.line + 1):
        if waiting is not None:
            found[-1] = (found[-1][0], f"{found[-1][1]}\n{line}", [])
            waiting = None if line == waiting else waiting
        elif found and found[-1][1].endswith("\\"):
            found[-1] = (found[-1][0], found[-1][1].removesuffix("\\") + line.strip(), [])
        elif console and not line.startswith("$ "):
            if found:
                found[-1][2].append(line)
            continue
        elif line.strip() and not line.lstrip().startswith("#"):
            found.append((number, line.removeprefix("$ "), []))
        else:
            continue
        here = re.search(r"<<\s*'?(\w+)'?", found[-1][1])
        if here and waiting is None and "\n" not in found[-1][1]:
            waiting = here[1]
    return [Command(text=text, shown=tuple(shown), block=block, line=number) for number, text, shown in found]
