"""The quick start as a user runs it: from text to a model and a report, interrupted and continued."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mamba_slm.cli.main import load_command, main
from mamba_slm.cli.quickstart import again_command, first_config
from mamba_slm.data.python_library import python_library_folder
from mamba_slm.data.shards import TokenShards
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.metrics import read_metrics
from mamba_slm.runs.status import read_status
from mamba_slm.training.run_config import read_train_config

PROGRAM = [sys.executable, "-c", "import sys; from mamba_slm.cli.main import main; sys.exit(main())"]
BASELINES = {"gzip -9 (each file alone)", "xz -9e (each file alone)", "xz -9e (all files together)"}


@pytest.fixture(scope="module")
def notes(tmp_path_factory) -> Path:
    """A user's folder: real text, about 300 kB in a dozen files."""
    folder = tmp_path_factory.mktemp("notes")
    for name in ("email", "json", "logging"):
        for file in sorted((python_library_folder() / name).glob("*.py")):
            shutil.copy(file, folder / f"{name}-{file.name}")
    return folder


def quickstart(*words: object) -> list[str]:
    return ["quickstart", "--threads", "1", *map(str, words)]


def test_text_becomes_a_model_an_evaluation_and_a_report(notes, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(quickstart("--data", notes, "--out", out, "--minutes", "0.2")) == 0
    printed = capsys.readouterr()
    headings = re.findall(r"^\d/5 (\w+):", printed.err, flags=re.MULTILINE)
    assert headings == ["doctor", "data", "train", "evaluate", "report"]
    assert "step 0 " in printed.err and "→" in printed.err
    assert re.search(r"loss \d", printed.err)
    rows = {row["name"]: row for row in json.loads((out / "evaluation.json").read_text())}
    assert {"model", "Witten-Bell trigram (same tokens, same training text)"} | BASELINES == set(rows)
    assert len({row["bytes"] for row in rows.values()}) == 1
    for row in rows.values():
        assert f"{row['bits_per_byte']:.3f}" in printed.out
    assert f"mamba-slm chat {out}" in printed.out
    assert "bits per byte" in (out / "report.md").read_text()
    assert f"report card      {out / 'report.html'}" in printed.out and "<h2" in (out / "report.html").read_text()

    # held-out files are in neither the training nor the validation part
    parts = {name: TokenShards.open(out / "data" / name) for name in ("train", "held-out")}
    assert parts["held-out"].text_bytes == rows["model"]["bytes"]
    documents = {
        name: {shards.document(i).tobytes() for i in range(shards.num_documents)} for name, shards in parts.items()
    }
    assert not documents["train"] & documents["held-out"]

    # what was made can be used, and a second call says that it is done
    assert main(["generate", str(out), "import ", "--max-new-tokens", "5", "--seed", "1"]) == 0
    assert main(["report", str(out), "--stdout"]) == 0
    capsys.readouterr()
    before = read_metrics(RunDirectory(out).metrics_file)
    assert main(quickstart("--data", notes, "--out", out, "--json")) == 0
    again = capsys.readouterr()
    assert "finished already" in again.err
    assert json.loads(again.out)["evaluation"] == list(rows.values())
    assert read_metrics(RunDirectory(out).metrics_file) == before


@pytest.mark.slow
def test_interrupted_in_training_it_continues_and_keeps_its_plan(notes, tmp_path):
    out = tmp_path / "run"
    words = [*PROGRAM, *quickstart("--data", notes, "--out", out, "--minutes", "0.6")]  # minutes are few where a step
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)  # takes seconds: one is waited for, no more
    metrics = RunDirectory(out).metrics_file
    while not (metrics.exists() and metrics.read_text().count("\n") >= 1):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate(timeout=600)
    assert process.returncode == 130
    assert f"go on with: mamba-slm quickstart --data {notes} --out {out}" in talk
    assert (status := read_status(RunDirectory(out).status_file)) and status.state == "stopped"
    reached = read_metrics(metrics)
    planned = read_train_config(RunDirectory(out))
    assert planned.max_minutes

    finished = subprocess.run(words, capture_output=True, text=True, timeout=900)
    assert finished.returncode == 0, finished.stderr
    rows = read_metrics(metrics)
    assert rows[: len(reached)] == reached
    steps = [row["step"] for row in rows if row["kind"] == "train"]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) > len(reached)
    assert read_train_config(RunDirectory(out)) == planned
    assert (out / "report.md").is_file()


@pytest.mark.slow
def test_killed_while_it_prepares_it_starts_again(notes, tmp_path):
    out = tmp_path / "run"
    words = [*PROGRAM, *quickstart("--data", notes, "--out", out, "--minutes", "0.1")]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    while not (out / "run.json").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    finished = subprocess.run(words, capture_output=True, text=True, timeout=900)
    assert finished.returncode == 0, finished.stderr
    assert (out / "report.md").is_file()


def test_other_text_in_the_same_place_is_refused(notes, tmp_path, capsys):
    out = tmp_path / "run"
    (tmp_path / "empty").mkdir()
    assert main(quickstart("--data", notes, "--out", out, "--minutes", "0")) == 2
    assert main(quickstart("--data", tmp_path / "empty", "--out", out, "--minutes", "0.1")) == 5
    capsys.readouterr()
    assert main(quickstart("--data", notes, "--out", out, "--minutes", "0.1")) == 2
    error = capsys.readouterr().err
    assert "learns from" in error and "hint: choose another place: --out" in error


def test_how_text_is_read_can_be_said_and_is_said_again(notes, tmp_path, capsys):
    words = ["--data", notes, "--out", tmp_path / "run", "--minutes", "0.1", "--pattern", "*.nothing"]
    assert main(quickstart(*words)) == 5
    assert "no file to read" in (error := capsys.readouterr().err) and "matches *.nothing" in error
    words += ["--text-key", "body", "--on-error", "skip"]
    parsed = load_command("quickstart")[1].parse_args(quickstart(*words)[1:])
    again = again_command(parsed)
    assert again[again.index("--text-key") + 1] == "body" and {"--pattern", "--on-error"} <= set(again)
    config = first_config(parsed)
    assert (config.data_pattern, config.text_key, config.on_error) == ("*.nothing", "body", "skip")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty"), (b"\x00\x01\x02" * 5000, "binary"), (b"few words", "too few")],
)
def test_text_that_cannot_be_used_is_explained(tmp_path, capsys, content, message):
    file = tmp_path / "text.txt"
    file.write_bytes(content)
    assert main(quickstart("--data", file, "--out", tmp_path / "run", "--minutes", "0.1")) == 5
    error = capsys.readouterr().err
    assert message in error and "hint:" in error


@pytest.mark.slow
@pytest.mark.alone
def test_on_the_default_corpus_it_beats_each_file_compressed_alone_in_five_minutes(tmp_path):
    """The promise of the README, with both cores; other programs at the same time make it harder, not impossible."""
    started = time.monotonic()
    result = subprocess.run(
        [*PROGRAM, "quickstart", "--out", str(tmp_path / "run"), "--json"], capture_output=True, text=True
    )
    seconds = time.monotonic() - started
    assert result.returncode == 0, result.stderr
    rows = {row["name"]: row["bits_per_byte"] for row in json.loads(result.stdout)["evaluation"]}
    assert rows["model"] < rows["gzip -9 (each file alone)"]
    assert rows["model"] < rows["xz -9e (each file alone)"]
    assert seconds < 330, "five minutes, and a little for starting up beside other tests"
