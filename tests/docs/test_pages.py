"""Every command of README, the guides and the concepts runs on a nano model, and prints what its page shows.

How to write a page so that this works: CONTRIBUTING.md, "Pages are executed"; the notes above blocks: `docs.page`;
the files of a page: `docs.stage`; what makes commands small: `docs.smaller`.
"""

import os
import re
from collections import Counter

import pytest

from docs.executor import Executor
from docs.made import Made
from docs.page import FENCE, SHELL, blocks, commands, pages
from docs.stage import Stage, stage_of
from mamba_slm.cli.main import load_command
from promises.documents import REPOSITORY


def name(page):
    return str(page.relative_to(REPOSITORY))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Made(tmp_path_factory.mktemp("made"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("default")  # a reader sees warnings and goes on
@pytest.mark.parametrize("page", [page for page in pages() if stage_of(page)], ids=name)
def test_every_command_of_the_page_does_what_the_page_says(page, made, tmp_path, monkeypatch):
    folder = tmp_path / "page"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MAMBA_SLM_HOME", "runs")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    environment = dict(os.environ)
    stage = Stage(folder, made)
    module = stage_of(page)
    executor = Executor(page, stage)
    try:
        assert module is not None
        module.prepare(stage)
        executor.execute()
    finally:
        for close in stage.ends:
            close()
        os.environ.clear()
        os.environ.update(environment)
    print(f"{name(page)}: {dict(executor.counts)}")
    assert not executor.wrong, "\n\n".join(["", *executor.wrong])
    assert executor.counts["executed"] or all(block.not_run for block in page_blocks(page))


def page_blocks(page):
    return [block for block in blocks(page.read_text(encoding="utf-8")) if commands(block) or block.language == "py"]


@pytest.mark.parametrize("page", pages(), ids=name)
def test_no_block_of_a_page_is_passed_over_in_silence(page):
    found = page_blocks(page)
    if any(not block.not_run for block in found):
        assert stage_of(page), f"{name(page)} has commands and no tests/docs/stages/ file that prepares its folder"
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.language not in SHELL:
            typed = [line for line in block.body.splitlines() if line.startswith(("mamba-slm ", "$ "))]
            assert not typed or block.language == "text", f"{name(page)}:{block.line}: a block of commands is ```bash"
        assert not (block.not_run and len(block.not_run) < 8), f"{name(page)}:{block.line}: what hinders it?"


@pytest.mark.parametrize("page", pages(), ids=name)
def test_commands_within_the_text_of_a_page_exist_with_their_flags(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for words in (inline.split() for inline in re.findall(r"`mamba-slm ([^`]+)`", text)):
        if words[0].strip("-").isupper() or words[0].startswith("-"):
            continue  # `mamba-slm COMMAND`, `mamba-slm --version`
        parser = load_command(words[0])[1]
        inner = dict(parser.subcommands())
        parser = next((inner[word] for word in words[1:] if word in inner), parser)
        known = {flag for action in parser._actions for flag in action.option_strings}
        if words[:2] == ["doctor", "--train"]:
            continue  # what follows is train's
        absent = {word.partition("=")[0] for word in words if word.startswith("--")} - known
        assert not absent, f"{name(page)}: mamba-slm {' '.join(words)}"


def test_most_commands_run():
    kinds = Counter(block.not_run is None for page in pages() for block in page_blocks(page) for _ in commands(block))
    assert kinds[True] > 3 * kinds[False]
