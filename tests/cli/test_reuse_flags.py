"""What saves work changes no text, says what it saved, and refuses what does not go together."""

import re

import pytest

from mamba_slm.cli.main import main
from mamba_slm.model.checkpoint import save_model
from small_models import save_small_model, small_tokenizer, varied_model

PROMPT = "def f(self, value): return self.f(value) " * 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save_small_model(tmp_path_factory.mktemp("models") / "model", max_context_tokens=400))


@pytest.fixture(scope="module")
def draft(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "draft"
    folder.mkdir()
    save_model(varied_model(max_context_tokens=400, seed=8), folder)
    small_tokenizer().save(folder)
    return str(folder)


def said(capsys, *words):
    """stdout and stderr of a command that succeeds."""
    assert main(["generate", *words]) == 0
    return capsys.readouterr()


@pytest.mark.parametrize("temperature", ["0", "0.8"])
def test_guesses_change_no_text_and_are_counted(folder, draft, temperature, capsys):
    common = (folder, PROMPT, "--runtime", "torch", "--temperature", temperature, "--seed", "3")
    common = (*common, "--max-new-tokens", "40")
    plain = said(capsys, *common)
    for flags in (["--prompt-lookup", "5"], ["--draft", draft, "--draft-tokens", "3"], ["--draft", folder]):
        guessed = said(capsys, *common, *flags)
        assert guessed.out == plain.out
        assert re.search(r"guesses: \d\.\d\d tokens per reading; .* of \d+ guesses were right", guessed.err)
    assert "tokens per reading; 100% of" in guessed.err


def test_a_prompt_is_read_once(folder, tmp_path, capsys):
    common = (folder, PROMPT, "--temperature", "0", "--max-new-tokens", "5", "--prompt-cache", str(tmp_path / "cache"))
    first, second = said(capsys, *common), said(capsys, *common)
    assert first.out == second.out
    count = re.search(r"prompt cache: 0 of (\d+) prompt tokens reused, 1 state kept", first.err)[1]
    assert f"prompt cache: {count} of {count} prompt tokens reused, 0 states kept" in second.err
    assert int(count) > 64
    other = said(capsys, *common, "--weights", "int8")
    assert "prompt cache: 0 of" in other.err  # other weights, other states


@pytest.mark.parametrize("flags", [["--draft", "x", "--prompt-lookup", "3"], ["--prompt-lookup", "3", "--beams", "2"]])
def test_two_ways_to_choose_tokens_are_refused(folder, flags, capsys):
    assert main(["generate", folder, PROMPT, *flags]) == 2
    assert "cannot be had together" in capsys.readouterr().err


def test_a_chat_guesses_from_all_turns_and_says_the_same(folder, monkeypatch, capsys):
    import io
    import sys

    replies = []
    for flags in ([], ["--prompt-lookup", "6"]):
        typed = io.TextIOWrapper(io.BytesIO(("hello hello\n" * 3).encode()))
        monkeypatch.setattr(sys, "stdin", typed)
        assert main(["chat", folder, "--temperature", "0", "--max-new-tokens", "20", "--seed", "1", *flags]) == 0
        replies.append(capsys.readouterr().out)
    assert replies[0] == replies[1] != ""
