"""Data sets of the hub: what is one, and what is said when it cannot be reached."""

import json

import pytest

from mamba_slm.core.errors import ConfigError, DataError, SetupError
from mamba_slm.data.conversations.hub import hub_records, is_hub_id
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


def test_the_split_for_training_is_chosen_and_rows_are_numbered(tmp_path, monkeypatch):
    """The library takes a folder for a data set of this name: everything but the network is as it is on the hub."""
    folder = tmp_path / "owner" / "name"
    folder.mkdir(parents=True)
    for split in ("train_sft", "test_sft"):
        lines = "".join(json.dumps({"text": f"{split} {number}"}) + "\n" for number in range(3))
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    configuration = {split: f"{split}.jsonl" for split in ("train_sft", "test_sft")}
    head = "configs:\n- config_name: default\n  data_files:\n"
    head += "".join(f"  - split: {split}\n    path: {name}\n" for split, name in configuration.items())
    (folder / "README.md").write_text(f"---\n{head}---\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    found = list(hub_records("owner/name", None, ("train", "train_sft"), None))
    assert found == [(f"owner/name, train_sft, row {n + 1}", {"text": f"train_sft {n}"}) for n in range(3)]
    assert next(iter(hub_records("owner/name", "test_sft", (), 1)))[1] == {"text": "test_sft 0"}
    with pytest.raises(ConfigError, match="has the splits train_sft, test_sft"):
        next(iter(hub_records("owner/name", None, ("train",), None)))
    with pytest.raises(SetupError, match="Unknown split"):
        next(iter(hub_records("owner/name", "dev", (), None)))
