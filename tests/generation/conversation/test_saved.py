"""Promises of a saved conversation: it goes on where it was, and a file that is none is named."""

import json
import os

import pytest

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.generation.conversation.reply_settings import ReplySettings
from mamba_slm.generation.conversation.saved import read_conversation, resume_from, save_conversation
from mamba_slm.generation.conversation.session import ChatSession
from mamba_slm.generation.conversation.turns import Continuation
from small_models import small_tokenizer, varied_model

SETTINGS = ReplySettings(temperature=1.5, top_p=None, top_k=50, max_new_tokens=6, seed=9, stops=("zzz",))


def session(settings=SETTINGS):
    return ChatSession(
        varied_model(max_context_tokens=120), small_tokenizer(), Continuation(small_tokenizer()), settings, name="small"
    )


def test_a_saved_conversation_goes_on_as_it_would_have(tmp_path):
    first = session()
    for message in ("def f(x):", "naïve 語 😀"):
        "".join(first.respond(message))
    save_conversation(first, tmp_path / "talk.json")
    saved = read_conversation(tmp_path / "talk.json")
    assert (saved.model, saved.system, saved.settings) == ("small", None, SETTINGS)
    second = session(ReplySettings())
    assert "2 turns" in resume_from(saved, second)
    assert second.turns == first.turns and second.settings == first.settings
    assert "".join(second.respond("return")) == "".join(first.respond("return"))


def test_another_tokenizer_is_said(tmp_path):
    first = session()
    "".join(first.respond("def f(x):"))
    save_conversation(first, tmp_path / "talk.json")
    document = json.loads((tmp_path / "talk.json").read_text())
    document["tokenizer"] = "another"
    (tmp_path / "talk.json").write_text(json.dumps(document))
    assert "held with small, so its replies are read as text" in resume_from(
        read_conversation(tmp_path / "talk.json"), session()
    )


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        (None, ConfigError, "cannot be read: No such file"),
        ("{", DataError, "is not JSON"),
        ("[]", DataError, "is not a conversation"),
        ('{"format_version": 99}', DataError, "has format version 99"),
        ('{"format_version": 1, "model": "a"}', DataError, "is not a conversation"),
    ],
)
def test_a_file_that_is_no_conversation_is_named(tmp_path, content, error, said):
    path = tmp_path / "talk.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(error, match=said) as caught:
        read_conversation(path)
    assert str(path) in caught.value.message and caught.value.hint


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="cannot be written") as caught:
        save_conversation(session(), tmp_path / "file" / "talk.json")
    assert os.fspath(tmp_path / "file") in caught.value.message
