"""`mamba-slm bench serve`: what it prints, writes and refuses; and a server of its own."""

import json

import pytest

from evaluation.load.scripted import serving_in_a_thread, stream, tokens, whole
from mamba_slm.cli.main import main
from small_models import save_small_model

QUICK = ["--concurrency", "1,2", "--requests", "4", "--warmup", "0"]


def script(path, body):
    if path == "/v1/models":
        return whole({"data": [{"id": "first"}, {"id": "second"}]})
    if body["model"] != "first":
        return whole({"error": {"code": "model_not_found"}}, status=404)
    if not body.get("stream"):
        return whole(
            {
                "choices": [{"text": "a", "finish_reason": "length"}],
                "usage": {"prompt_tokens": 192, "completion_tokens": 1},
            }
        )
    return stream(*tokens(body["max_tokens"]))


def test_a_server_elsewhere_is_measured_shown_and_written(tmp_path, capsys):
    out, svg = tmp_path / "load.json", tmp_path / "load.svg"
    with serving_in_a_thread(script) as server:
        assert main(["bench", "serve", "--url", server.url, *QUICK, "--out", str(out), "--svg", str(svg)]) == 0
    shown = capsys.readouterr()
    assert [line.split()[0] for line in shown.out.splitlines()[1:]] == [
        "1",
        "itl",
        "tpot",
        "e2e",
        "2",
        "itl",
        "tpot",
        "e2e",
    ]
    assert "a word of the made-up prompts has 1.50 tokens here" in shown.err
    results = json.loads(out.read_text())
    assert {"command", "versions", "hardware", "settings", "url", "model", "levels", "format_version"} <= set(results)
    assert [level["answered"] for level in results["levels"]] == [4, 4]
    prompts = [body["prompt"] for _, body in server.asked[2:]]
    assert {len(prompt.split()) for prompt in prompts} == {round(128 / 1.5)}
    assert svg.read_text().startswith("<svg")


def test_json_goes_to_stdout_and_a_key_is_sent_and_not_kept(capsys, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "very-secret")
    with serving_in_a_thread(script) as server:
        assert main(["bench", "serve", "--url", server.url, *QUICK, "--api-key-env", "SOME_KEY", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["model"] == "first"
    assert "very-secret" not in shown.out + shown.err


def test_a_server_that_refuses_is_named_with_its_reason(capsys):
    with serving_in_a_thread(script) as server:
        assert main(["bench", "serve", "--url", server.url, "--name", "third", *QUICK]) == 6
    assert "404 model_not_found" in capsys.readouterr().err
    assert main(["bench", "serve", "--url", server.url, *QUICK]) == 3
    assert "no server answers at 127.0.0.1" in capsys.readouterr().err


def test_one_of_a_model_and_an_address_is_measured(capsys):
    assert main(["bench", "serve"]) == 2
    assert main(["bench", "serve", "model", "--url", "http://127.0.0.1:1/v1"]) == 2
    assert main(["bench", "serve", "--url", "http://127.0.0.1:1/v1", "--serve-flags", "--max-running 2"]) == 2
    assert main(["bench", "serve", "--url", "http://127.0.0.1:1/v1", "--api-key-env", "NOT_SET"]) == 2
    assert "NOT_SET is not set" in capsys.readouterr().err


@pytest.mark.slow
def test_a_model_is_served_for_as_long_as_it_is_measured(tmp_path, capsys):
    folder = save_small_model(tmp_path / "small", max_context_tokens=256)
    flags = ["--prompt-tokens", "20-40", "--output-tokens", "6", "--shared-prefix", "50%", "--vocab-size", "320"]
    words = ["bench", "serve", str(folder), "--serve-flags", "--runtime torch --max-running 3", "--rate", "500", *flags]
    assert main([*words, "--requests", "12", "--json"]) == 0
    (level,) = json.loads(capsys.readouterr().out)["levels"]
    assert (level["answered"], level["errors"], level["new_tokens"]) == (12, {}, 72)
    assert 0 < level["cached_tokens"] < level["prompt_tokens"]


@pytest.mark.slow
def test_a_server_that_does_not_start_is_said_with_its_own_words(tmp_path, capsys):
    assert main(["bench", "serve", str(tmp_path / "nothing")]) == 6
    assert "nothing" in capsys.readouterr().err
