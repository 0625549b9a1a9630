"""`mamba-slm bench`: what it prints, writes and refuses."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

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
    assert shown.out.splitlines()[0].split()[:4] == ["task", "tokens", "precision", "contender"]
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
        (["nano", "--lengths", "64Ki", "--peers", "none"], "do not fit into the model's context"),
        (["demo", "--peers", "granite"], "does not fit into a GraniteMoeHybrid"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_runs(words, said, capsys):
    assert main(["bench", *words]) in (2, 5)
    assert said in capsys.readouterr().err


def test_an_interrupt_keeps_and_prints_what_was_measured(folder, tmp_path, capsys, monkeypatch):
    measured = []

    def interrupted(*arguments):
        if measured:
            raise KeyboardInterrupt
        measured.append(real(*arguments))
        return measured[0]

    real = measure.measure_cell
    monkeypatch.setattr(measure, "measure_cell", interrupted)
    out = tmp_path / "bench.json"
    words = ["bench", folder, "--peers", "none", "--tasks", "prefill,decode", "--precision", "fp32", *SMALL, "--json"]
    assert main([*words, "--out", str(out)]) == 130
    shown = capsys.readouterr()
    assert f"1 cells were measured; they are in {out}" in shown.err
    assert json.loads(shown.out) == json.loads(out.read_text())
    assert [cell["task"] for cell in json.loads(shown.out)["cells"]] == ["prefill"]


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
def test_decoding_is_compiled_before_it_is_timed_and_stands_beside_the_plain_one(folder, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("MAMBA_SLM_CACHE", str(tmp_path / "cache"))
    threads = torch.get_num_threads()
    words = ["bench", folder, "--peers", "none", "--tasks", "prefill,decode", "--precision", "fp32", *SMALL]
    try:
        assert main([*words, "--runtime", "compiled", "--json"]) == 0
    finally:
        torch.set_num_threads(threads)
    shown = capsys.readouterr()
    assert "compiling the decoding step in fp32" in shown.err
    cells = json.loads(shown.out)["cells"]
    assert [[row["contender"] for row in cell["rows"]] for cell in cells] == [["ours"], ["ours", "plain"]]
    assert len(list((tmp_path / "cache/compiled").glob("*.pt2"))) == 4


@pytest.mark.slow
def test_every_task_beside_both_peers(folder, capsys):
    assert main(["bench", folder, "--precision", "fp32,bf16", *SMALL]) == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert len(rows) == 3 * 2 * 3
    assert sum("granite" in row for row in rows) == sum("llama" in row for row in rows) == 6


@pytest.mark.slow
def test_ctrl_c_of_a_terminal_leaves_no_process_behind(folder, tmp_path):
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
    assert "about" in "".join(started.stderr.readline() for _ in range(2))
    time.sleep(8)  # its workers are loaded and busy
    os.killpg(started.pid, signal.SIGINT)
    _, said = started.communicate(timeout=30)
    assert started.returncode == 130
    assert "interrupted: 0 cells" in said
    assert "Traceback" not in said
    with pytest.raises(ProcessLookupError):
        os.killpg(started.pid, 0)
