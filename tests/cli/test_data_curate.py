"""`mamba-slm data curate` as a user runs it: the installed command, in a process of its own."""

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from data.curation.prose import good_prose, write_jsonl
from mamba_slm.cli.main import main
from mamba_slm.data.readers import read_documents
from mamba_slm.data.shards import TokenShards

COMMAND = Path(sys.executable).with_name("mamba-slm")


def run(*words):
    """Run it; stdout and stderr."""
    done = subprocess.run([COMMAND, "data", "curate", *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def run_here(*words):
    """The same in this process, which is quicker."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as talk:
        assert main(["data", "curate", *words]) == 0, talk.getvalue()
    return out.getvalue(), talk.getvalue()


def line_that(begins, out):
    return next(line for line in out.splitlines() if line.startswith(begins)).split()


def bytes_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and path.name != "timing.json"
    }


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """Pages with two copies and two bad ones, as current folder."""
    monkeypatch.chdir(tmp_path)
    good = good_prose(60)
    write_jsonl(Path("pages/a.jsonl"), [*good[:30], good[0], "short"])
    write_jsonl(Path("pages/b.jsonl"), [*good[30:], good[40], "BUY NOW " * 100])
    return tmp_path


def test_a_run_ends_in_a_funnel_a_page_and_text_to_tokenize(workplace):
    out, talk = run("pages", "--kind", "web", "--drop-share", "10%", "--out", "clean")
    assert line_that("read", out)[1] == "64" and line_that("= written", out)[2] == "54"
    assert line_that("- duplicates.exact", out)[2] == "2"
    assert "estimate: " in talk and "next: open clean/report.html in a browser" in talk
    assert sorted(path.name for path in Path("clean").iterdir()) == [
        *("curation.json", "funnel.json", "part-00000.jsonl.zst", "removed", "report.html", "timing.json"),
    ]
    assert main(["data", "train-tokenizer", "clean", "--vocab-size", "280", "--out", "tok"]) == 0
    assert main(["data", "tokenize", "clean", "--tokenizer", "tok", "--validation-share", "0", "--out", "tokens"]) == 0
    assert TokenShards.open("tokens/train").num_documents == 54 == len(list(read_documents("clean")))


def test_programs_get_json(workplace):
    out, talk = run_here("pages", "--kind", "web", "--out", "clean", "--json", "--quiet")
    found = json.loads(out)
    assert talk == "" and found["funnel"]["total"]["read"]["documents"] == 64
    assert found["fingerprint"] == json.loads(Path("clean/curation.json").read_text())["fingerprint"]
    out, _ = run_here("pages", "--kind", "web", "--out", "clean", "--explain", "a.jsonl:32", "--json")
    assert json.loads(out)["verdict"].startswith("removed by signals.min_characters")


def test_settings_come_from_a_file_and_flags_and_are_shown_before_anything_runs(workplace):
    Path("strict.yaml").write_text("rules:\n  web:\n    min_words: 200\nduplicates: null\ndrop_share: 0.5\n")
    words = ["pages", "--kind", "web", "--config", "strict.yaml", "--drop-share", "0", "--out", "clean"]
    out, _ = run_here(*words, "--dry-run")
    assert "rules.web.min_words" in out and "200" in out and "strict.yaml" in out and "estimate: " in out
    assert not list(workplace.glob("clean*"))
    run_here(*words)
    settings = json.loads(Path("clean/curation.json").read_text())["settings"]
    assert settings["rules"]["web"]["min_words"] == 200 and settings["rules"]["docs"]["min_words"] == 10
    assert settings["duplicates"] is None and settings["drop_share"] == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["pages"], 2, "what kind of text is pages?"),
        (["pages", "--kind", "wbe"], 2, "did you mean 'web'"),
        (["page", "--kind", "web"], 5, "did you mean pages?"),
        (["pages", "--kind", "web", "--drop-share", "130%"], 2, "drop_share must lie in [0, 1)"),
        (["pages", "--kind", "web", "--config", "none.yaml"], 2, "none.yaml does not exist"),
        (["pages", "--kind", "web", "--config", "wrong.yaml"], 2, "wrong.yaml:2: unknown setting 'min_word'"),
        (["pages", "--kind", "web", "--explain", "c.jsonl:1"], 5, "there is no document 'c.jsonl:1'"),
        (["pages", "--kind", "web", "--workers", "0"], 2, "workers must be at least 1"),
    ],
)
def test_what_cannot_be_done_is_said_with_a_way_out(workplace, capsys, words, code, said):
    Path("wrong.yaml").write_text("rules: {web: {\n  min_word: 3}}\n")
    assert main(["data", "curate", *words, "--out", "clean"]) == code
    talk = capsys.readouterr().err
    assert said in talk and "hint: " in talk and "Traceback" not in talk
    assert not list(workplace.glob("clean*"))


def test_in_a_base_install_it_is_refused_before_anything_is_measured_or_written(workplace, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "orjson", None)
    assert main(["data", "curate", "pages", "--kind", "web", "--out", "clean"]) == 3
    said = capsys.readouterr().err
    assert "pip install 'mamba-slm[data]'" in said and "estimate" not in said
    assert [entry.name for entry in workplace.iterdir()] == ["pages"]


def test_one_kind_per_input_is_enough(workplace):
    write_jsonl(Path("talks/t.jsonl"), good_prose(12, kind="chat"))
    out, _ = run_here("web=pages", "chat=talks", "--out", "clean", "--json")
    kinds = json.loads(out)["funnel"]["kinds"]
    assert {kind: tally["read"]["documents"] for kind, tally in kinds.items()} == {"web": 64, "chat": 12}


@pytest.mark.slow
def test_ray_makes_the_same_bytes(workplace):
    pytest.importorskip("ray", reason="needs the extra ray")
    Path("small.yaml").write_text("part_bytes: 20000\n")
    words = ["pages", "--kind", "web", "--config", "small.yaml", "--workers", "2"]
    run(*words, "--out", "here")
    run(*words, "--out", "ray", "--engine", "ray")
    assert bytes_of("ray") == bytes_of("here")


def test_options_of_slurm_without_slurm_are_refused(workplace, capsys):
    words = ["pages", "--kind", "web", "--slurm.partition", "cpu", "--out", "clean"]
    assert main(["data", "curate", *words]) == 2
    assert "--slurm.partition is for Slurm" in capsys.readouterr().err
