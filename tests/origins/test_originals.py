"""The table of the original commands is complete, and the pages that are made of it are fresh."""

import re

import pytest

from mamba_slm.cli.main import COMMANDS
from origins import originals
from origins.page import page
from origins.roadmap_page import page as roadmap_page
from origins.rows import ROWS
from promises.documents import REPOSITORY, our_commands, parse

DOCS = REPOSITORY / "docs"
QUOTED = r"`(mamba-slm [^`]+)`"


def test_nothing_that_the_originals_name_is_forgotten():
    if originals.folder() is None:
        pytest.skip("needs the original documents beside the repository, which are not here")
    answered = {name for row in ROWS for name in row.was}
    assert not sorted(originals.named_in(originals.read()).all() - answered)


def test_every_name_has_one_answer():
    names = [name for row in ROWS for name in row.was]
    assert sorted(names) == sorted(set(names))


def test_the_page_of_the_original_commands_is_fresh():
    assert (DOCS / "from-the-original.md").read_text(encoding="utf-8") == page(), "run `make docs`"


def test_the_roadmap_is_fresh():
    assert (DOCS / "roadmap.md").read_text(encoding="utf-8") == roadmap_page(), "run `make docs`"


@pytest.mark.slow
def test_every_command_of_the_pages_parses():
    text = "\n".join((DOCS / name).read_text(encoding="utf-8") for name in ("from-the-original.md", "roadmap.md"))
    for quoted in re.findall(QUOTED, text):
        for words in our_commands(quoted.replace("…", "").replace("\\|", "|")):
            if len(words) > 2:  # else it is the name of a command, and nobody is told to type it
                parse(words)
            assert words[0] in COMMANDS
