"""The executor finds what is wrong with a page; these pages are wrong on purpose."""

import pytest

from docs.executor import Executor
from docs.made import Made
from docs.page import blocks, commands
from docs.shown import missing
from docs.smaller import make_smaller
from docs.stage import Stage


@pytest.fixture
def complaints(tmp_path, monkeypatch):
    """What is said about a page of this text."""
    folder = tmp_path / "page"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def read(text):
        page = tmp_path / "page.md"
        page.write_text(text)
        executor = Executor(page, Stage(folder, Made(tmp_path / "made")))
        executor.execute()
        return executor.wrong, dict(executor.counts)

    return read


def test_a_page_that_is_right_is_executed_and_counted(complaints):
    first = "```console\n$ mamba-slm models list\nname  parameters\nnano  7M\n```\n"
    text = f"{first}```bash\nmamba-slm models list | wc -l\n```\n"
    assert complaints(text) == ([], {"executed": 2})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("```bash\nmamba-slm models describe 7B\n```", "page.md:2: mamba-slm models describe 7B"),
        ("```console\n$ mamba-slm models list\nname colour\n```", "does not print:\nname colour"),
        ("```console\n$ mamba-slm models list\nerror: no\n```", "ended with 0"),
        ("<!-- exit: 6 -->\n```bash\nmamba-slm models list\n```", "ended with 0"),
        ("```bash\ncat nothing.txt\n```", "nothing.txt"),
        ("```py\nassert 1 == 2\n```", "AssertionError"),
        ("<!-- not run: needs a GPU -->\n```bash\nmamba-slm train nano --date x\n```", "--date"),
        pytest.param(
            "<!-- not run: needs a GPU -->\n```bash\nmamba-slm train nano --data x --model-settings num_heads=7\n```",
            "num_heads",
            marks=pytest.mark.slow,
            id="planned",
        ),
        ("```bash\nmake nonsense\n```", "nonsense"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(complaints, text, said):
    wrong, _ = complaints(text)
    assert len(wrong) == 1 and said in wrong[0]


def test_blocks_have_their_notes_lines_and_here_documents():
    text = "one\n\n<!-- not run: needs a GPU -->\n```bash\n# a remark\na \\\n  b\ncat > f <<'E'\nx\nE\nc\n```\n"
    (block,) = blocks(text)
    assert block.not_run == "needs a GPU" and block.line == 4
    assert [(one.line, one.text) for one in commands(block)] == [(6, "a b"), (8, "cat > f <<'E'\nx\nE"), (11, "c")]


def test_shown_words_must_be_printed_and_numbers_may_differ():
    shown = ("step 400  loss 4.60  speed 9 tok/s", "a long line that goes…")
    assert missing(shown, "step 2  loss 9.1  speed 1 tok/s\na long line that goes on") == []
    assert missing(shown, "step 2  speed 1 tok/s\na short line that goes on") == list(shown)
    assert missing(("loss 4.60",), "loss 4.61", exact=True) == ["loss 4.60"]


def test_commands_become_small_and_keep_everything_else():
    small = make_smaller(["train", "125M", "--data", "x", "--max-minutes", "60", "--optimizer", "muon"])
    assert small[:5] == ["train", "nano", "--data", "x", "--optimizer"] and small[small.index("--max-steps") + 1] == "2"
    assert make_smaller(["train", "--resume", "runs/x", "--nproc", "8"]) == [
        "train",
        "--resume",
        "runs/x",
        "--nproc",
        "2",
    ]
    assert make_smaller(["models", "estimate", "1.3B"]) == ["models", "estimate", "1.3B"]
    assert make_smaller(["train", "1.3B", "--dry-run"]) == ["train", "1.3B", "--dry-run"]
