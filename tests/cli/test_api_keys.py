"""`mamba-slm api-keys`, and the flags of `serve` that decide who may ask."""

import argparse
import json

import pytest

from mamba_slm.cli import serve_guard
from mamba_slm.cli.main import main
from mamba_slm.serving.api.guard.keys import KeyRing


@pytest.fixture
def file(tmp_path):
    return str(tmp_path / "keys.json")


def test_a_key_is_made_shown_listed_and_removed(file, capsys, tmp_path):
    assert main(["api-keys", "add", "alice", "--file", file, "--tokens-per-minute", "100k"]) == 0
    made = capsys.readouterr()
    key = made.out.strip()
    assert KeyRing(tmp_path / "keys.json", say=print).find(key).tokens_per_minute == 100_000
    assert "cannot be shown again" in made.err and key not in made.err
    assert main(["api-keys", "add", "root", "--file", file, "--admin"]) == 0
    capsys.readouterr()
    assert main(["api-keys", "list", "--file", file]) == 0
    shown = capsys.readouterr().out
    assert "alice" in shown and "100000" in shown and "admin" in shown and key not in shown
    assert main(["api-keys", "list", "--file", file, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["alice", "root"] and "sha256" not in rows[0]
    assert main(["api-keys", "remove", "alice", "--file", file]) == 0
    assert main(["api-keys", "remove", "alice", "--file", file]) == 2
    assert "unknown key 'alice'" in capsys.readouterr().err


def flags(*words):
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    serve_guard.add_flags(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "my.lab"])
def test_a_server_that_others_can_reach_is_not_started_without_keys(host, capsys, file):
    assert main(["serve", "nothing", "--host", host]) == 2
    said = capsys.readouterr().err
    assert "nobody would need a key" in said and "api-keys add" in said and "--insecure-no-keys" in said
    assert serve_guard.settings(flags("--host", host, "--insecure-no-keys")).api_keys is None
    assert "everybody who can reach" in capsys.readouterr().err
    assert main(["serve", "nothing", "--host", host, "--api-keys", file]) == 5
    assert "there is no" in capsys.readouterr().err
    main(["api-keys", "add", "alice", "--file", file])
    assert host in serve_guard.settings(flags("--host", host, "--api-keys", file)).allowed_hosts


def test_the_log_is_json_where_there_is_no_terminal_and_prompts_in_it_are_announced(capsys):
    assert serve_guard.settings(flags()).log == "json"
    assert "log=json (no terminal)" in capsys.readouterr().err
    settings = serve_guard.settings(flags("--log-prompts", "--log", "none"))
    assert settings.log_prompts and settings.log == "json"
    assert "WARNING: --log-prompts" in capsys.readouterr().err
