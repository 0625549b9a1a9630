"""Data sets of the hub: what is one, and what is said when it cannot be reached."""

import pytest

from mamba_slm.core.errors import DataError, SetupError
from mamba_slm.data.conversations.hub import is_hub_id
from mamba_slm.data.conversations.read import read_conversations


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("HuggingFaceH4/ultrachat_200k", True),
        ("openai/gsm8k:main", True),
        ("data/talk.jsonl", False),
        ("data/talk.jsonl.gz", False),
        ("/data/talk", False),
        ("talk", False),
        ("a/b/c", False),
    ],
)
def test_owner_and_name_that_are_no_path_are_a_data_set_of_the_hub(source, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_hub_id(source) == expected
    (tmp_path / "HuggingFaceH4" / "ultrachat_200k").mkdir(parents=True)
    assert not is_hub_id("HuggingFaceH4/ultrachat_200k")


def test_a_path_that_does_not_exist_is_no_data_set():
    with pytest.raises(DataError, match="there is no file or folder"):
        read_conversations("data/talk.jsonl", say=print)


def test_without_a_network_the_error_says_how_to_go_on():
    with pytest.raises(SetupError, match="HuggingFaceH4/ultrachat_200k cannot be read from the hub") as refused:
        read_conversations("HuggingFaceH4/ultrachat_200k", say=print)
    assert refused.value.hint is not None
    assert "leave out --offline; or download it" in refused.value.hint
    assert "--repo-type dataset HuggingFaceH4/ultrachat_200k" in refused.value.hint
