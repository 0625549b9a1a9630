"""Runs the commands of a page in its folder, and says where the page is wrong."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path
from unittest.mock import patch

from docs.page import Block, Command, blocks, commands
from docs.servers import Server
from docs.shown import missing
from docs.smaller import make_smaller
from docs.stage import Stage
from mamba_slm.cli.main import load_command, main
from promises.documents import REPOSITORY, our_commands, parse

SERVERS = ("serve", "dashboard")
OPERATORS = re.compile(r"[|&;<>()]+")


class Executor:
    """One page. `wrong` collects what is wrong with it, each with its line; `counts` what was done."""

    def __init__(self, page: Path, stage: Stage) -> None:
        self.page = page
        self.stage = stage
        self.wrong: list[str] = []
        self.counts: Counter[str] = Counter()
        self.server: Server | None = None

    def execute(self) -> None:
        """Every block, in order; goes on behind what is wrong."""
        read = blocks(self.page.read_text(encoding="utf-8"))
        for block in read:
            if name := block.notes.get("file"):
                self.stage.file(name, block.body)
        try:
            for block in read:
                self.execute_block(block)
        finally:
            self.stop_server()

    def execute_block(self, block: Block) -> None:
        """What a reader would do with it."""
        if block.language == "py" and not block.not_run:
            self.execute_python(block)
        lines = commands(block)
        for command in lines:
            wanted = int(block.notes["exit"]) if "exit" in block.notes and command is lines[-1] else None
            try:
                self.execute_line(command, wanted)
            except Exception as error:  # the next command may still run
                self.complain(command.line, f"{command.text}\n{type(error).__name__}: {error}")

    def execute_python(self, block: Block) -> None:
        """With the files of the page, and its server."""
        self.counts["executed"] += 1
        program = self.server.here(block.body) if self.server else block.body
        try:
            with captured() as printed:
                exec(compile(program, f"{self.page.name}:{block.line}", "exec"), {"__name__": "example"})
        except Exception as error:
            self.complain(block.line, f"{type(error).__name__}: {error}\n{printed.getvalue()}")

    def execute_line(self, command: Command, wanted: int | None) -> None:
        """One line of a shell: ours in this process, servers beside it, the rest by a shell."""
        line = self.server.here(command.text) if self.server else command.text
        ours = list(our_commands(line))
        if command.block.not_run:
            self.plan(command, ours)
        elif line.startswith("pip install"):
            self.counts["parsed"] += 1  # test_every_extra_that_is_named_exists; tests/packaging installs them
        elif line.startswith("export "):
            for name, _, value in (word.partition("=") for word in shlex.split(line, comments=True)[1:]):
                self.stage.sets(name, value)
        elif line.startswith("make "):
            self.make(command, line)
        elif len(ours) == 1 and shlex.split(line, comments=True)[:1] == ["mamba-slm"] and not has_operators(line):
            if ours[0][0] in SERVERS and "--help" not in ours[0]:
                self.serve(command, make_smaller(ours[0]))
            else:
                words = [os.path.expanduser(word) for word in ours[0]]  # as a shell does
                self.judge(command, wanted, *self.run(make_smaller(words)))
        else:
            self.judge(command, wanted, *self.shell(line))

    def plan(self, command: Command, ours: list[list[str]]) -> None:
        """What cannot run here is parsed, and run with `--dry-run` where it has that."""
        for words in ours:
            parse(words)
        dry = [words for words in ours if can_be_planned(words) and "only parsed" not in command.block.notes]
        for words in dry:
            planned = words if "--dry-run" in words else [*words, "--dry-run"]
            self.judge(command, 0, *self.run(planned), kind="dry-run")
        if not dry:
            self.counts["parsed"] += 1

    def make(self, command: Command, line: str) -> None:
        """What a target would run of ours, in this folder; `make --dry-run` says so. Others are only looked up."""
        shown = subprocess.run(
            [*shlex.split(line, comments=True), "--dry-run", "--always-make"],
            cwd=REPOSITORY, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if shown.returncode:
            self.complain(command.line, f"{line}\n{shown.stderr}")
        ours = [
            words for one in re.findall(r"^\.venv/bin/mamba-slm .+", shown.stdout, re.M) for words in our_commands(one)
        ]
        for words in ours:
            self.judge(command, 0, *self.run(make_smaller(words)))
        if not ours:
            self.counts["parsed"] += 1

    def run(self, words: list[str]) -> tuple[str, int, str]:
        """A command of ours in this process: what ran, the exit code, all that it printed."""
        keys = io.TextIOWrapper(io.BytesIO(self.stage.typed_into(words).encode()), encoding="utf-8")
        before = dict(os.environ)
        with captured() as printed, patch.object(sys, "stdin", keys):
            code = main(words)
        os.environ.clear()
        os.environ.update(before)
        forget_kernels()
        return f"mamba-slm {shlex.join(words)}", code, printed.getvalue()

    def shell(self, line: str) -> tuple[str, int, str]:
        """Anything else; `mamba-slm` in it is this source tree."""
        small = smaller_in_shell(line) if "\n" not in line else line
        tools = self.stage.folder.parent / "bin"
        tools.mkdir(exist_ok=True)
        program = tools / "mamba-slm"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m mamba_slm.cli.main "$@"\n')
        program.chmod(0o755)
        small = re.sub(r"\bcurl ", "curl --fail-with-body --silent --show-error ", small)
        path = os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]])
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", small],
            cwd=self.stage.folder, env=os.environ | {"PATH": path}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=600,
        )  # fmt: skip
        return small, done.returncode, done.stdout

    def serve(self, command: Command, words: list[str]) -> None:
        """Until the next server of the page, or its end."""
        self.stop_server()
        self.counts["executed"] += 1
        self.server = Server(words, self.stage.folder)
        if said := self.server.wait():
            self.complain(command.line, f"mamba-slm {shlex.join(words)} does not listen:\n{said}")
            self.stop_server()
        elif absent := self.compare(command, "".join(self.server.said)):
            self.complain(command.line, f"{command.text}\nis shown, and not printed: {absent}")

    def stop_server(self) -> None:
        """Which must end well."""
        if self.server is not None and (said := self.server.stop()):
            self.wrong.append(f"{self.page.name}: {said}")
        self.server = None

    def judge(
        self, command: Command, wanted: int | None, ran: str, code: int, printed: str, kind: str = "executed"
    ) -> None:
        """The exit code, and what the page shows. A page that shows an `error: ` says that the command fails."""
        self.counts[kind] += 1
        fails = any(line.startswith("error: ") for line in command.shown)
        right = code == wanted if wanted is not None else (code != 0) == fails
        if not right:
            self.complain(command.line, f"{command.text}\nran as {ran}\nended with {code}\n{printed[-3000:]}")
        elif absent := self.compare(command, printed):
            shown = "\n".join(absent)
            self.complain(command.line, f"{command.text}\nshows, and does not print:\n{shown}\nprinted:\n{printed}")

    def compare(self, command: Command, printed: str) -> list[str]:
        """The lines that are shown and were not printed."""
        if command.block.not_run:
            return []
        compared = command.block.notes.get("compared", "all")
        return missing(command.shown, printed, compared=compared, exact=self.stage.exact)

    def complain(self, line: int, what: str) -> None:
        """Remember what is wrong."""
        self.wrong.append(f"{self.page.name}:{line}: {what}")


def has_operators(line: str) -> bool:
    """Whether a shell does more with this line than to start one program."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return "\n" in line or any(OPERATORS.fullmatch(token) for token in lexer) or "$(" in line


def smaller_in_shell(line: str) -> str:
    """A line of a shell whose `mamba-slm` commands are small; a command ends where an operator stands."""
    parts = re.split(r"(\s(?:\|\||&&|\||;|>>?|<)\s)", line)
    for place, part in enumerate(parts):
        words = shlex.split(part, comments=True)
        if words[:1] == ["mamba-slm"]:
            parts[place] = shlex.join(["mamba-slm", *make_smaller(words[1:])])
    return "".join(parts)


def can_be_planned(words: list[str]) -> bool:
    """Whether the command has `--dry-run`."""
    _, parser = load_command(words[0])
    inner = dict(parser.subcommands())
    last = next((inner[word] for word in words[1:] if word in inner), parser)
    return any("--dry-run" in action.option_strings for action in last._actions)


@contextlib.contextmanager
def captured():
    """Both streams as one, as a terminal shows them."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        yield printed


def forget_kernels() -> None:
    """A command may install kernels for its whole process; the next one begins without."""
    kernels = sys.modules.get("mamba_slm.ops.kernels")
    if kernels is not None:
        kernels.uninstall_kernels()
