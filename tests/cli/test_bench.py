"""`mamba-slm bench`: what it prints, writes and refuses."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mamba_slm.cli.bench_engines import chosen_engines
from mamba_slm.cli.main import main
from mamba_slm.core.compiler import cxx_compiler
from mamba_slm.evaluation.bench import measure
from mamba_slm.model.checkpoint import save_model
from small_models import varied_model

SMALL = ["--lengths", "16", "--rounds", "1", "--decode-tokens", "2", "--threads", "1", "--runtime", "torch"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("model")
    save_model(varied_model(), place)
    return str(place)


def test_ours_alone_needs_no_transformers_and_is_written_with_its_surroundings(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    out = tmp_path / "bench.json"
    words = ["bench", folder, "--peers", "none", "--tasks", "decode", "--precision", "fp32", "--out", str(out), *SMALL]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[0].split()[:4] == ["task", "tokens", "batch", "precision"]
    assert len(shown.out.splitlines()) == 2
    assert "1/1 decode after 16 tokens, fp32: about" in shown.err
    results = json.loads(out.read_text())
    for fact in (
        "command",
        "versions",
        "hardware",
        "source",
        "settings",
        "load_average",
        "config",
        "contenders",
        "waiting",
        "limits",
        "left_out",
    ):
        assert fact in results
    assert results["settings"]["threads"] == 1


def test_peers_without_transformers_name_the_extra(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert main(["bench", folder, *SMALL]) == 3
    assert "mamba-slm[hf]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nanp"], "nanp does not exist"),
        (["nano", "--tasks", "trian"], "did you mean 'train'"),
        (["nano", "--peers", "lama"], "did you mean 'llama'"),
        (["nano", "--engines", "onnx-int7"], "did you mean 'onnx-int8'"),
        (["nano", "--onnx", "--tasks", "train"], "engines are measured in prefill and decode"),
        (["nano", "--precision", "fp8"], "unknown precision 'fp8'"),
        (["nano", "--ours", "int7"], "did you mean 'ours-int8'"),
        (["nano", "--ours", "int8", "--precision", "bf16"], "engines are measured in prefill and decode of fp32"),
        (["nano", "--crossover", "--startup"], "not allowed with"),
        (["nano", "--startup", "--rounds", "0"], "at least 1"),
        (["demo", "--peers", "granite"], "does not fit into a GraniteMoeHybrid"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_runs(words, said, capsys):
    assert main(["bench", *words]) in (2, 5)
    assert said in capsys.readouterr().err


def test_lengths_beyond_the_context_of_a_trained_model_are_refused(folder, capsys):
    assert main(["bench", folder, "--lengths", "64Ki", "--peers", "none"]) == 2
    assert "new ones included, do not fit into the model's context of 48" in capsys.readouterr().err


@pytest.mark.slow
def test_an_interrupt_keeps_and_prints_what_was_measured(folder, tmp_path, capsys, monkeypatch):
    measured = []

    def interrupted(*arguments):
        if measured:
            raise KeyboardInterrupt
        measured.append(real(*arguments))
        return measured[0]

    real = measure.Run.cell
    monkeypatch.setattr(measure.Run, "cell", interrupted)
    out = tmp_path / "bench.json"
    words = ["bench", folder, "--peers", "none", "--tasks", "prefill,decode", "--precision", "fp32", *SMALL, "--json"]
    assert main([*words, "--out", str(out)]) == 130
    shown = capsys.readouterr()
    assert f"1 cells were measured; they are in {out}" in shown.err
    assert json.loads(shown.out) == json.loads(out.read_text())
    assert [cell["task"] for cell in json.loads(shown.out)["cells"]] == ["prefill"]


@pytest.mark.slow
def test_engines_are_exported_and_measured_beside_ours(folder, capsys):
    words = ["bench", folder, "--engines", "onnx-fp32,onnx-int8", "--peers", "none", "--tasks", "decode", *SMALL]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert [line for line in shown.out.splitlines() if "ONNX Runtime int8" in line]
    assert "exporting for ONNX Runtime fp32" in shown.err


def test_onnx_takes_every_engine_that_is_installed_and_names_the_one_that_is_not(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert chosen_engines(None, onnx=True) == ("onnx-fp32", "onnx-int8", "onnx-int4")
    assert "llama-cpp-python is not installed" in capsys.readouterr().err
    assert chosen_engines(None, onnx=False) == ()
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    assert main(["bench", "nano", "--engines", "llama.cpp-q8_0"]) == 3
    assert "pip install llama-cpp-python" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(cxx_compiler() is None, reason="needs a C++ compiler")
def test_a_compiled_step_stands_beside_the_plain_one_and_other_weights_beside_both(folder, capsys):
    words = ["bench", folder, "--peers", "none", "--tasks", "decode", "--ours", "int8", "--batches", "1,2", *SMALL]
    assert main([*words, "--runtime", "compiled", "--json"]) == 0
    shown = capsys.readouterr()
    assert "kernels: " in shown.err
    cells = json.loads(shown.out)["cells"]
    assert [[row["contender"] for row in cell["rows"]] for cell in cells] == [
        ["ours", "plain", "ours-int8"],
        ["ours", "ours-int8"],
    ]
    sizes = {row["contender"]: row["conversation_bytes"] for row in cells[0]["rows"]}
    assert sizes["ours"] == sizes["plain"] >= sizes["ours-int8"] > 0


@pytest.mark.slow
def test_the_crossover_is_against_attention_alone_of_equal_size_and_at_every_length(folder, capsys, tmp_path):
    out = tmp_path / "crossover.json"
    words = ["bench", folder, "--crossover", "--lengths", "16,8", "--decode-tokens", "2", "--rounds", "1"]
    assert main([*words, "--threads", "1", "--precision", "fp32", "--out", str(out)]) == 0
    results = json.loads(out.read_text())
    assert [(cell["tokens"], cell["task"]) for cell in results["cells"]] == [
        (tokens, task) for tokens in (8, 16) for task in ("decode", "prefill", "train")
    ]
    assert all([row["contender"] for row in cell["rows"]] == ["ours", "attention"] for cell in results["cells"])
    ours, other = (results["contenders"][name] for name in ("ours", "attention"))
    assert set(other["settings"]["pattern"]) == {"*", "-"}
    assert abs(other["parameters"] / ours["parameters"] - 1) <= 0.01
    assert other["settings"]["kernels"] == ours["settings"]["kernels"]
    assert "attention: ours with attention in every layer" in capsys.readouterr().err


@pytest.mark.slow
def test_every_task_beside_both_peers(folder, capsys):
    assert main(["bench", folder, "--precision", "fp32,bf16", *SMALL]) == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert len(rows) == 3 * 2 * 3
    assert sum("granite" in row for row in rows) == sum("llama" in row for row in rows) == 6


def busiest_worker(group):
    """CPU seconds of the process of a group, besides its first, that has used most; None while there is none."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and path.parent.name != str(group):
                found.append((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))
    return max(found, default=None)


@pytest.mark.slow
@pytest.mark.parametrize("after_seconds", [0.03, 5], ids=["while its worker starts", "while its workers compute"])
def test_ctrl_c_of_a_terminal_leaves_no_process_behind(folder, tmp_path, after_seconds):
    out = tmp_path / "bench.json"
    words = [
        "bench",
        folder,
        "--peers",
        "none",
        "--precision",
        "fp32",
        *SMALL,
        "--rounds",
        "1000000",
        "--out",
        str(out),
    ]
    program = "import sys; from mamba_slm.cli.main import main; sys.exit(main(sys.argv[1:]))"
    started = subprocess.Popen(
        [sys.executable, "-c", program, *words], start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    assert started.stderr is not None
    assert any("about" in line for line in started.stderr)  # and reads no further
    while (used := busiest_worker(started.pid)) is None or used < after_seconds:
        assert started.poll() is None
        time.sleep(0.001)
    os.killpg(started.pid, signal.SIGINT)
    _, said = started.communicate(timeout=600)
    assert started.returncode == 130
    assert "interrupted: 0 cells" in said
    assert "Traceback" not in said
    with pytest.raises(ProcessLookupError):
        os.killpg(started.pid, 0)
