import json

import pytest

from data_hub import Hub
from mamba_slm.cli.main import main


@pytest.fixture
def hub(monkeypatch):
    server = Hub()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield server
    server.close()


def test_the_table_is_shown_to_people_and_programs(capsys):
    assert main(["data", "sources"]) == 0
    shown = capsys.readouterr().out
    assert "books3" in shown and "withdrawn" in shown and "30%" in shown
    assert main(["data", "sources", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"name", "kind", "hub", "files", "licence", "access", "tokens", "text_key"} <= set(rows[0])
    assert main(["data", "sources", "describe", "wikipedia", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["hub"] == "wikimedia/wikipedia"
    assert main(["data", "sources", "describe", "books3"]) == 0
    assert "instead  gutenberg" in capsys.readouterr().out


def test_the_reassigned_share_is_said_even_where_a_program_reads(capsys):
    assert main(["data", "sources", "mixture", "--json"]) == 0
    captured = capsys.readouterr()
    assert "changed: books3 is withdrawn: its 10% go to gutenberg" in captured.err
    assert json.loads(captured.out)["weights"]["gutenberg"] == pytest.approx(0.1)
    assert main(["data", "sources", "mixture", "--have", "books3", "--without", "pile,starcoder"]) == 0
    captured = capsys.readouterr()
    assert captured.err.count("changed: ") == 2 and "books3" in captured.out


def test_describe_and_a_name_belong_together(capsys):
    assert main(["data", "sources", "describe"]) == 2
    assert main(["data", "sources", "list", "c4"]) == 2
    assert main(["data", "sources", "describe", "c5"]) == 2
    assert "did you mean 'c4'" in capsys.readouterr().err


def test_a_part_of_a_source_is_downloaded_and_can_be_inspected(hub, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = "".join(json.dumps({"content": f"text number {number}"}) + "\n" for number in range(50))
    hub.files = {f"{number}.jsonl": lines.encode() for number in range(9)}
    (tmp_path / "mine.yaml").write_text(
        "mine: {title: x, kind: web, licence: CC0, hub: me/data, files: '*.jsonl', text_key: content}\n"
    )
    arguments = ["data", "download", "mine", "--sources", "mine.yaml", "--out", "out"]
    assert main([*arguments, "--tokens", "1k"]) == 0
    captured = capsys.readouterr()
    assert "out: 3 files, " in captured.out and "tokens (estimated from the size) of me/data" in captured.out
    assert "licence: CC0" in captured.err and captured.err.endswith("mamba-slm data inspect out --text-key content\n")
    assert main(["data", "inspect", "out", "--text-key", "content", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["out"]["num_documents"] == 150
    assert main([*arguments, "--tokens", "1M", "--json"]) == 0
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)["files"]) == 9


def test_errors_of_a_download_have_their_exit_codes(hub, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["data", "download", "books3", "--out", out]) == 5
    assert main(["data", "download", "nothing", "--out", out]) == 2
    hub.token = "secret"
    assert main(["data", "download", "starcoder", "--out", out]) == 3
    assert "bigcode/starcoderdata needs a token (401)" in capsys.readouterr().err


def test_a_dry_run_of_a_download_says_size_licence_and_access_without_the_network(tmp_path, capsys):
    words = ["data", "download", "fineweb-edu-10b", "--out", str(tmp_path / "out"), "--dry-run"]
    assert main([*words, "--tokens", "1B"]) == 0
    printed = capsys.readouterr().out
    assert "about 2.61 GiB for 1.00B tokens (estimated)" in printed and "open; licence: ODC-BY" in printed
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tokens_estimated"] == 10_000_000_000
    assert main(["data", "download", "starcoder", "--out", "x", "--tokens", "1T", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "250B tokens" in printed and "gated" in printed and not (tmp_path / "out").exists()
