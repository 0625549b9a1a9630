"""Promises of text files of prompts."""

import pytest

from mamba_slm.core.errors import DataError
from mamba_slm.data.conversations.read import read_prompts


def test_every_line_of_a_text_is_a_prompt(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeffWhy?\r\n\n  \nWho is ½?\n".encode())
    said = []
    found = read_prompts(file, say=said.append)
    assert [(prompt.messages, prompt.origin) for prompt in found.items] == [
        (({"role": "user", "content": "Why?"},), "prompts.txt, line 1"),
        (({"role": "user", "content": "Who is ½?"},), "prompts.txt, line 4"),
    ]
    assert said


def test_a_text_in_another_encoding_is_named(tmp_path):
    (tmp_path / "p.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"p\.txt is not UTF-8"):
        read_prompts(tmp_path / "p.txt", say=print)
