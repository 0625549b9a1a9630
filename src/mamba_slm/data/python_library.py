"""The default corpus: the Python standard library of the running interpreter, real text that is on every machine.

About 12 MB in 700 files with Python 3.11. Tests and site-packages are left out, the documents are the files, and the
held-out ones are chosen by a hash of their path.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path

from mamba_slm.core.errors import SetupError
from mamba_slm.data.document import Document
from mamba_slm.data.splits import is_held_out

NAME = "python-library"
HELD_OUT_SHARE = 0.05
# The first of "python-library 0", "… 1", … that holds out 5% of the bytes (± 0.25%) of Python 3.11's library with no
# file above a fifth of them: pydoc_data/topics.py alone is 6% of the corpus and would otherwise be most of the test.
HELD_OUT_SALT = "python-library 11"
LEFT_OUT_FOLDERS = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"})
BUILD_RECORD = "_sysconfigdata"  # generated when the interpreter was built: compiler flags and paths of that machine


def python_library_folder() -> Path:
    """Where the running interpreter keeps its standard library."""
    return Path(sysconfig.get_path("stdlib"))


def python_library_documents(folder: Path | None = None) -> Iterator[Document]:
    """Yield every non-empty .py file of the standard library as a `Document`, sorted by path.

    Files that are not UTF-8 (there is none in CPython's library outside its tests) are left out: they exist to test
    decoders. The id is the path relative to the library, with `/`.

    Args:
        folder: another folder of Python sources to treat the same way; None means the running interpreter's.

    Raises:
        SetupError: this Python was installed without the sources of its library.
    """
    folder = python_library_folder() if folder is None else folder
    found = False
    for path in sorted(folder.rglob("*.py"), key=lambda path: path.relative_to(folder).as_posix()):
        relative = path.relative_to(folder)
        if not is_in_library(relative):
            continue
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError:
            continue
        if text.strip():
            found = True
            yield Document(text=text, id=relative.as_posix(), source=NAME)
    if not found:
        raise SetupError(
            f"this Python has no library sources in {folder}",
            hint="give your own text instead, for example: mamba-slm quickstart --data FILE_OR_FOLDER",
        )


def is_in_library(relative: Path) -> bool:
    """Whether a file of the library's folder is one of its documents.

    >>> is_in_library(Path("json/decoder.py")), is_in_library(Path("site-packages/numpy/core.py"))
    (True, False)
    """
    return not LEFT_OUT_FOLDERS & set(relative.parts[:-1]) and not relative.name.startswith(BUILD_RECORD)


def held_out(document: Document, share: float = HELD_OUT_SHARE) -> bool:
    """Whether a document of this corpus is kept for evaluation."""
    return is_held_out(document.id, share, salt=HELD_OUT_SALT)
