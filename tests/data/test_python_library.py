import sys

import pytest

from mamba_slm.core.errors import SetupError
from mamba_slm.data.python_library import held_out, python_library_documents, python_library_folder


def test_the_default_corpus_is_the_library_of_this_interpreter_without_tests():
    documents = list(python_library_documents())
    ids = [document.id for document in documents]
    assert ids == sorted(ids) and len(set(ids)) == len(ids)
    assert {"argparse.py", "json/decoder.py", "asyncio/base_events.py"} <= set(ids)
    assert not [id for id in ids if {"test", "tests", "site-packages"} & set(id.split("/")[:-1])]
    assert not [id for id in ids if "_sysconfigdata" in id]
    assert {document.source for document in documents} == {"python-library"}
    assert 8e6 < sum(document.num_bytes for document in documents) < 20e6


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the share was chosen on Python 3.11's library")
def test_five_percent_are_held_out_and_no_file_dominates_them():
    documents = list(python_library_documents())
    total = sum(document.num_bytes for document in documents)
    sizes = [document.num_bytes for document in documents if held_out(document)]
    assert 0.0475 < sum(sizes) / total < 0.0525
    assert max(sizes) < sum(sizes) / 5


def test_files_that_are_not_utf8_and_empty_files_are_left_out(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "pkg").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text("x = 1\n")
    (tmp_path / "pkg" / "__init__.py").write_text("")
    (tmp_path / "pkg" / "latin.py").write_bytes(b"# caf\xe9\n")
    (tmp_path / "pkg" / "tests.py").write_text("y = 2\n")
    assert [(d.id, d.text) for d in python_library_documents(tmp_path)] == [("pkg/tests.py", "y = 2\n")]


def test_a_python_without_library_sources_is_explained(tmp_path):
    with pytest.raises(SetupError, match="no library sources") as caught:
        list(python_library_documents(tmp_path))
    assert "--data" in caught.value.hint
    assert (python_library_folder() / "argparse.py").is_file()
