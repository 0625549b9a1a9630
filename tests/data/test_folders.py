from pathlib import Path

import pytest

from mamba_slm.core.errors import DataError
from mamba_slm.data.folders import find_files

NAMES = [
    "b.txt", "a.md", "image.png", "noext", "sub/c.TXT", "sub/d.jsonl.gz", "sub/deep/e.py", "sub/deep/e_test.py",
    ".hidden.txt", ".git/f.txt", "__pycache__/g.txt", "data.tar.gz", "h.json.zst",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    return tmp_path


def found(folder, pattern=None):
    return [file.relative_to(folder).as_posix() for file in find_files(folder, pattern)[0]]


def test_without_a_pattern_known_text_files_are_taken_in_order(folder):
    expected = ["a.md", "b.txt", "h.json.zst", "sub/c.TXT", "sub/d.jsonl.gz", "sub/deep/e.py", "sub/deep/e_test.py"]
    assert found(folder) == expected
    assert find_files(folder)[1] == {".png": 1, "(no suffix)": 1, ".tar.gz": 1}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.md", ["a.md"]),
        ("*.md,*.png", ["a.md", "image.png"]),
        (["*.md", "noext"], ["a.md", "noext"]),
        ("sub/*.py", ["sub/deep/e.py", "sub/deep/e_test.py"]),
        ("*.py, !*_test.py", ["sub/deep/e.py"]),
        ("!sub/*, !*.zst", ["a.md", "b.txt"]),
    ],
)
def test_patterns_choose_by_name_or_path_and_take_away(folder, pattern, expected):
    assert found(folder, pattern) == expected


def test_a_file_is_taken_as_it_is(folder):
    assert find_files(folder / "image.png", "*.md") == ([folder / "image.png"], {})


def test_a_missing_path_suggests_the_nearest_name(folder):
    with pytest.raises(DataError, match="there is no file or folder") as caught:
        find_files(folder / "b.text")
    assert caught.value.hint == f"did you mean {folder / 'b.txt'}?"
    with pytest.raises(DataError) as caught:
        find_files(Path("/nowhere/at/all"))
    assert caught.value.hint == "check the path"


def test_a_folder_without_a_readable_file_says_what_it_holds(folder, tmp_path_factory):
    with pytest.raises(DataError, match=r"no file to read in .* matches \*\.cobol") as caught:
        find_files(folder, "*.cobol")
    assert "it holds 2 .txt, 2 .py, 1 " in caught.value.hint
    with pytest.raises(DataError) as caught:
        find_files(tmp_path_factory.mktemp("empty"))
    assert caught.value.hint == "it is empty: put text into it, or name another folder"
