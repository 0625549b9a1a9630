import pytest

from mamba_slm.core.errors import DataError
from mamba_slm.training.holdout import cut_tail, split_documents


def texts(documents):
    return sorted(document.text for document in documents())


def test_the_tail_is_cut_at_a_line_end_and_is_at_most_half():
    assert cut_tail("aaaa\nbbbb\ncccc\n", 5) == ("aaaa\nbbbb\n", "cccc\n")
    assert cut_tail("abcdefgh", 100) == ("abcd", "efgh")


def test_of_few_documents_the_end_of_the_longest_is_held_out(tmp_path):
    for name, words in (("a", 10), ("b", 100), ("c", 20)):
        (tmp_path / f"{name}.txt").write_text("word\n" * words)
    split = split_documents(tmp_path, 0.1)
    (held_out,) = texts(split.validation)
    assert held_out == "word\n" * 13
    assert texts(split.train) == sorted(["word\n" * 10, "word\n" * 87, "word\n" * 20])


def test_the_same_documents_are_held_out_every_time(tmp_path):
    for number in range(100):
        (tmp_path / f"{number}.txt").write_text(f"text number {number}\n")
    split, again = split_documents(tmp_path, 0.2), split_documents(tmp_path, 0.2)
    assert texts(split.validation) == texts(split.validation) == texts(again.validation)
    assert len(texts(split.train)) + len(texts(split.validation)) == 100


def test_text_that_is_all_white_space_is_refused(tmp_path):
    (tmp_path / "blank.txt").write_text(" \n\n")
    with pytest.raises(DataError):
        split_documents(tmp_path, 0.1)
