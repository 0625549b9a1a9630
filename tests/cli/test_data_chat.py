"""`data inspect --as chat|mask` shows what fine-tuning reads and learns."""

import json

import pytest

from mamba_slm.cli.main import main
from small_models import save_small_model

TALK = {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello!"}]}
OPEN = {"messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_small_model(tmp_path / "model")
    (tmp_path / "talk.jsonl").write_text("\n".join(map(json.dumps, (TALK, OPEN, TALK))), encoding="utf-8")
    return tmp_path


def test_conversations_are_counted_and_one_is_shown(workplace, capsys):
    assert main(["data", "inspect", "talk.jsonl", "--as", "chat", "--number", "2"]) == 0
    out, err = capsys.readouterr()
    assert "conversations     2\n" in out
    assert "left out          1 roles in the wrong order\n" in out
    assert out.endswith("talk.jsonl, line 3\nuser: Hello\nassistant: Hello!\n")
    assert "talk.jsonl, line 2: the last message is of user" in err
    assert main(["data", "inspect", "talk.jsonl", "--as", "chat", "--tokenizer", "model", "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert (counts["form"], counts["conversations"], counts["left_out"]) == (
        "messages",
        2,
        {"roles in the wrong order": 1},
    )
    assert 0 < counts["learned_tokens"] < counts["tokens"]


def test_the_mask_of_one_conversation_is_shown(workplace, capsys):
    assert main(["data", "inspect", "talk.jsonl", "--as", "mask", "--tokenizer", "model"]) == 0
    out, err = capsys.readouterr()
    assert out.endswith("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n⟦Hello!<|im_end|>⟧\n\n")
    assert "chat template: ChatML, for the model has none" in err


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (["--as", "chat"], 2, "no conversations to inspect"),
        (["talk.jsonl", "--as", "mask"], 2, "it needs --tokenizer"),
        (["talk.jsonl", "--as", "chat", "--number", "3"], 2, "there is no example 3: there are 2"),
        (["talk.jsonl", "--as", "chat", "--form", "alpaca"], 5, "nothing usable in talk.jsonl as alpaca"),
        (["owner/name", "--as", "chat"], 3, "the data set owner/name cannot be read from the hub"),
    ],
)
def test_what_cannot_be_shown_is_said(workplace, capsys, words, code, what):
    assert main(["data", "inspect", *words]) == code
    assert what in capsys.readouterr().err
