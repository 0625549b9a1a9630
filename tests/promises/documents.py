"""What the repository says in public: its text files, the commands in its documents and in the help of its commands."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

from mamba_slm.cli.main import COMMANDS, load_command
from mamba_slm.cli.parser import Parser, with_dashes

REPOSITORY = Path(__file__).parents[2]


def repository_files() -> list[Path]:
    """Every file that git tracks or would track; without git, every file outside hidden and build folders."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode == 0:
        return sorted(path for name in listed.stdout.split("\0") if name and (path := REPOSITORY / name).is_file())
    inside = (path for path in REPOSITORY.rglob("*") if path.is_file())
    return sorted(
        path for path in inside if not any(part.startswith(".") for part in path.relative_to(REPOSITORY).parts)
    )


def documents() -> list[Path]:
    """The Markdown files of the repository, the generated ones included."""
    return [path for path in repository_files() if path.suffix == ".md"]


def shell_lines(markdown: str) -> Iterator[str]:
    """Commands in the fenced console, bash and sh blocks. In a console block only lines after a `$ ` are commands."""
    for language, block in re.findall(
        r"^```(console|bash|sh|shell)\n(.*?)^```", markdown, flags=re.MULTILINE | re.DOTALL
    ):
        for line in block.replace("\\\n", " ").splitlines():
            if language == "console":
                if line.startswith("$ "):
                    yield line[2:]
            elif line.strip() and not line.lstrip().startswith("#"):
                yield line.removeprefix("$ ")


def our_commands(line: str) -> Iterator[list[str]]:
    """The words after `mamba-slm` of each such command in a shell line; pipes, `&&` and redirections end a command."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words: list[str] = []
    for token in [*lexer, ";"]:
        if set(token) <= set("|&;<>()"):
            if "mamba-slm" in words:
                yield words[words.index("mamba-slm") + 1 :]
            words = []
        else:
            words.append(token.removeprefix(".venv/bin/"))


def parse(words: list[str]) -> None:
    """Parse a command as `main` does, without running it; raises what a user would see."""
    words = with_dashes(words)
    if words[0] in COMMANDS:
        load_command(words[0])[1].parse_args(words[1:])
    else:
        assert words[0] in ("--help", "--version", "-h"), f"unknown command {words[0]}"


def parsers_of(command: str) -> Iterator[Parser]:
    """The parser of a command and those of its subcommands."""

    def below(parser: Parser) -> Iterator[Parser]:
        yield parser
        for _, inner in parser.subcommands():
            yield from below(inner)

    yield from below(load_command(command)[1])


def examples(*epilogs: str | None) -> list[list[str]]:
    """Every `mamba-slm` command in the examples of a help text."""
    lines = [line.strip() for text in epilogs if text for line in text.splitlines() if line.startswith("  ")]
    return [words for line in lines for words in our_commands(line)]
