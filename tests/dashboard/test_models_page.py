"""The page of models: what it may look at, and that its forms give the command lines that a terminal would use."""

import os
import shlex

import pytest

from dashboard.made_models import gguf_bytes, make_adapter, make_hf, make_model, make_onnx, make_quantized
from dashboard.made_runs import EVIL, client_of, make_run, parse
from mamba_slm.core.errors import ConfigError
from mamba_slm.dashboard.fields import MOST_CHARACTERS
from mamba_slm.dashboard.forms_models import QuantizeForm, form_of, name_of
from mamba_slm.runs.jobs import list_jobs

OWN = {"Origin": "http://localhost:8888"}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Where the dashboard runs, with a run and what was made of it."""
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path / "runs", "20260401-nano", config="train:\n  context_tokens: 64\n")
    make_model(run.path / "model")
    make_model(run.checkpoint_folder(50))
    make_quantized(tmp_path / "models" / "nano-int8", run.path / "model")
    make_onnx(tmp_path / "exported" / "onnx")
    make_hf(tmp_path / "exported" / "hf")
    (tmp_path / "exported" / "x.gguf").write_bytes(gguf_bytes())
    return tmp_path / "runs"


def plan(home, **form):
    return client_of(home).post("/api/models/plan", json=form, headers=OWN).json()


def one(home, path):
    return client_of(home).get("/api/models/one", params={"model": str(path)})


def test_the_list_has_runs_folders_and_files_with_what_they_were_made_from(home):
    found = client_of(home).get("/api/models").json()
    rows = {row["path"]: row for row in found["models"]}
    assert {path: row["kind"] for path, row in rows.items()} == {
        "runs/20260401-nano": "run", "models/nano-int8": "quantized", "exported/onnx": "ONNX", 
        "exported/x.gguf": "GGUF", "exported/hf": "Hugging Face",
    }  # fmt: skip
    assert rows["models/nano-int8"]["from"] == "runs/20260401-nano/model"
    assert found["whole"] and {"nano", "1.3B"} <= {row["name"] for row in found["presets"]}


def test_a_model_shows_its_layers_its_memory_and_what_was_made_of_it(home):
    found = one(home, "runs/20260401-nano").json()
    assert (found["kind"], found["pattern"], found["folder"]) == ("run", "M-*-M", "runs/20260401-nano/model")
    assert [child["path"] for child in found["children"]] == ["models/nano-int8"]
    assert [point["path"] for point in found["checkpoints"]] == ["runs/20260401-nano/checkpoints/step-00000050"]
    assert {row["format"] for row in found["formats"]} >= {"int8", "int4", "mixed"}
    assert found["memory"]["table"][0]["hybrid"] < found["memory"]["table"][0]["attention_only"]
    assert {row["name"] for row in found["files"]} == {"config.json", "model.safetensors"}
    assert (found["settings"]["max_context_tokens"], found["trained_context_tokens"]) == (96, 64)
    quantized = one(home, "models/nano-int8").json()
    assert [step["from"] for step in quantized["lineage"]] == ["runs/20260401-nano/model", None]
    assert quantized["checks"][0]["source"] == "report.json"


def test_every_format_can_be_looked_at(home):
    for path in ("exported/onnx", "exported/hf", "exported/x.gguf", "runs/20260401-nano/checkpoints/step-00000050"):
        answer = one(home, path)
        assert answer.status_code == 200 and answer.json()["parameters"] > 0, path


def test_a_size_can_be_looked_at_with_other_layers(home):
    client = client_of(home)
    assert client.get("/api/models/one?preset=1.3B").json()["parameters"] > 1e9
    found = client.get("/api/models/one", params={"preset": "nano", "pattern": "M3*-", "vocab_size": "32k"}).json()
    assert (found["pattern"], found["settings"]["vocab_size"]) == ("MMM*-", 32_000)
    for wrong in ({"preset": "nana"}, {"preset": "nano", "pattern": "M99999"}, {"preset": "nano", "layout": "x"}):
        answer = client.get("/api/models/one", params=wrong)
        assert answer.status_code in (400, 404, 500) and answer.json()["error"], wrong


@pytest.mark.parametrize(
    "path",
    ["", "..", "/etc", "../other", "link", ".hidden/m", "runs/../../other", "a\0b", "pipe", "text.txt", "x" * 9000],
)
def test_nothing_outside_and_nothing_else_is_looked_at(home, tmp_path_factory, path):
    outside = tmp_path_factory.mktemp("outside")
    make_model(outside / "m")
    (home.parent / "link").symlink_to(outside / "m")
    make_model(home.parent / ".hidden" / "m")
    os.mkfifo(home.parent / "pipe")
    (home.parent / "text.txt").write_text("no model")
    answer = one(home, path)
    assert answer.status_code in (400, 404) and "pattern" not in answer.json()


def test_a_run_that_is_a_link_in_its_home_is_shown(home, tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("elsewhere"), "far")
    make_model(run.path / "model")
    (home / "far").symlink_to(run.path)
    assert one(home, "runs/far").json()["kind"] == "run"


def test_the_page_is_data_and_no_markup(home):
    name = "x'<b>" + EVIL.replace("/", "∕")
    make_model(home.parent / "models" / name)
    client = client_of(home)
    assert name in [row["path"].partition("/")[2] for row in client.get("/api/models").json()["models"]]
    assert "<b>" not in client.get("/models").text


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"do": "quantize", "to": "int4", "keep": "in_proj=int8", "max_drop": "1%"},
         "quantize runs/20260401-nano --out models/20260401-nano-int4 --to int4 --keep in_proj=int8 --max-drop 1% "
         "--sensitivity parts --no-speed"),
        ({"do": "quantize", "speed": "on", "sensitivity": "matrices", "out": "o", "more": "--seed 3 --overwrite"},
         "quantize runs/20260401-nano --out o --to int8 --seed 3 --overwrite"),
        ({"do": "export", "format": "gguf", "type": "Q4_K_M"},
         "export gguf runs/20260401-nano --out exported/20260401-nano-Q4_K_M.gguf --type Q4_K_M"),
        ({"do": "export", "format": "hf", "dtype": "bfloat16"},
         "export hf runs/20260401-nano --out exported/20260401-nano-hf-bfloat16 --dtype bfloat16"),
        ({"do": "export", "format": "onnx", "weights": "int8", "graph": "both"},
         "export onnx runs/20260401-nano --out exported/20260401-nano-onnx-int8 --weights int8 --form both"),
        ({"do": "formats", "formats": "int8,gptq", "calibration": "notes"},
         "quantize runs/20260401-nano --compare int8,gptq --calibration notes --no-speed"),
        ({"do": "verify", "other": "exported/x.gguf", "tolerance": "0.5"},
         "verify runs/20260401-nano exported/x.gguf --tolerance 0.5"),
    ],
)  # fmt: skip
def test_the_command_shown_is_one_that_the_terminal_takes(home, form, words):
    found = plan(home, model="runs/20260401-nano", **form)
    assert found["problem"] is None
    assert found["command"] == f"mamba-slm {words}"
    parse(shlex.split(words))


def test_an_adapter_becomes_one_with_its_model(home):
    make_adapter(home.parent / "runs" / "lora", home / "20260401-nano")
    found = plan(home, do="merge", model="runs/lora")
    assert found["problem"] is None
    assert found["command"] == "mamba-slm adapters merge runs/lora --into base --out models/lora"
    parse(shlex.split(found["command"])[1:])


def test_the_size_is_known_before_and_names_are_free(home):
    make_model(home.parent / "models" / "20260401-nano-int8")
    found = plan(home, do="quantize", model="runs/20260401-nano")
    assert found["out"] == "models/20260401-nano-int8-2"
    assert 0 < found["size"]["bytes"] < found["size"]["bf16_bytes"]
    assert sum(part["bytes"] for part in found["size"]["parts"]) <= found["size"]["bytes"]
    assert plan(home, do="export", model="runs/20260401-nano/checkpoints/step-00000050")["out"] == (
        "exported/20260401-nano-step-50.gguf"
    )


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"do": "quantize"}, "choose a model"),
        ({"do": "quantize", "model": "runs/20260401-nano", "to": "int3"}, "int3"),
        ({"do": "quantize", "model": "runs/20260401-nano", "keep": "inproj=int8"}, "inproj"),
        ({"do": "quantize", "model": "runs/20260401-nano", "method": "gptq"}, "calibrate"),
        ({"do": "quantize", "model": "runs/20260401-nano", "block_size": "x"}, "x"),
        ({"do": "quantize", "model": "runs/20260401-nano", "to": ""}, "which format"),
        ({"do": "quantize", "model": "models/nano-int8"}, "quantized already"),
        ({"do": "quantize", "model": "exported/onnx"}, "ONNX"),
        ({"do": "quantize", "model": "runs"}, "holds no model"),
        ({"do": "quantize", "model": "runs/20260401-nana"}, "20260401-nano"),
        ({"do": "quantize", "model": "runs/20260401-nano", "out": "exported/hf"}, "exists"),
        ({"do": "quantize", "model": "runs/20260401-nano", "more": "--compare int8"}, "not for this form"),
        ({"do": "quantize", "model": "runs/20260401-nano", "more": "--sed 3"}, "did you mean"),
        ({"do": "quantize", "model": "runs/20260401-nano", "more": "'open"}, "quote"),
        ({"do": "export", "model": "runs/20260401-nano", "format": "gguf", "type": "Q9"}, "Q9"),
        ({"do": "export", "model": "runs/20260401-nano", "format": "zip"}, "zip"),
        ({"do": "export", "model": "models/nano-int8", "format": "hf"}, "quantized numbers"),
        ({"do": "verify", "model": "runs/20260401-nano"}, "the other model"),
        ({"do": "merge", "model": "runs/20260401-nano"}, "no adapter"),
        ({"do": "formats", "model": "models/nano-int8"}, "quantized already"),
        ({"do": "verify", "model": "runs/20260401-nano", "other": "x", "tolerance": "-1"}, "-1"),
        ({"do": "burn", "model": "runs/20260401-nano"}, "burn"),
        ({"do": "quantize", "model": "runs/20260401-nano", "evil": "x"}, "evil"),
    ],
)  # fmt: skip
def test_what_the_command_would_refuse_is_said_while_typing(home, form, said):
    assert said in plan(home, **form)["problem"]
    assert client_of(home).post("/api/models/start", json=form, headers=OWN).status_code in (400, 404, 500)
    assert list_jobs(home) == []


def test_a_vocabulary_that_is_no_multiple_of_8_asks_for_one_more_choice(home):
    from dataclasses import replace

    from dashboard.made_models import SMALL

    make_model(home.parent / "odd", replace(SMALL, vocab_size=300))
    for kind in ("hf", "gguf"):
        assert "multiple of 8" in plan(home, do="export", model="odd", format=kind)["problem"]
        assert plan(home, do="export", model="odd", format=kind, pad_vocabulary="on")["problem"] is None
    assert plan(home, do="export", model="odd", format="onnx")["problem"] is None


def test_paths_that_look_like_flags_stay_paths(home):
    form = QuantizeForm.of({"model": "-x", "out": "--overwrite", "calibration": "-"})
    assert form.words()[2:6] == ["./-x", "--out=--overwrite", "--to", "int8"]
    assert parse(form.words()[1:]).overwrite is False


@pytest.mark.parametrize(
    "body", [{"do": 3}, {"do": "quantize", "to": 3}, {"do": "quantize", "to": "x" * (MOST_CHARACTERS + 1)}, {}]
)
def test_a_form_with_other_values_is_refused(body):
    with pytest.raises(ConfigError):
        form_of(body)


@pytest.mark.parametrize("path", ["", "/", "..", "."])
def test_there_is_always_a_name(path):
    assert name_of(path) == "model"


def test_the_start_is_a_job_with_the_words_that_were_shown(home):
    form = {"do": "verify", "model": "runs/20260401-nano", "other": "nowhere"}
    answer = client_of(home).post("/api/models/start", json={**form, "is_queued": True}, headers=OWN)
    assert answer.status_code == 200
    (job,) = list_jobs(home)
    assert job.words == ("mamba-slm", "verify", "runs/20260401-nano", "nowhere") and job.is_queued
    assert answer.json()["job"] == job.id
    found = client_of(home).get(f"/api/models/outcome/0/{job.id}").json()
    assert found["out"] is None
    assert client_of(home).get("/api/models/outcome/9/000001").status_code == 404


def test_read_only_plans_and_starts_nothing(home):
    client = client_of(home, is_read_only=True)
    form = {"do": "quantize", "model": "runs/20260401-nano"}
    assert client.post("/api/models/plan", json=form, headers=OWN).json()["problem"] is None
    assert client.post("/api/models/start", json=form, headers=OWN).status_code == 400
    assert list_jobs(home) == [] and 'id="start"' not in client.get("/models").text


def test_looking_at_models_loads_no_torch(home):
    import subprocess
    import sys

    code = (
        "import sys\nfrom pathlib import Path\nfrom mamba_slm.cli.dashboard_plan import actions\n"
        "from mamba_slm.dashboard.app import create_app\nfrom mamba_slm.dashboard.config import DashboardConfig\n"
        "from starlette.testclient import TestClient\n"
        f"app = create_app(DashboardConfig(homes=(Path({str(home)!r}),), token='x' * 20), actions=actions())\n"
        "client = TestClient(app, base_url='http://localhost', headers={'Authorization': 'Bearer ' + 'x' * 20})\n"
        "assert client.get('/api/models/one?model=runs/20260401-nano').json()['parameters']\n"
        "form = {'do': 'quantize', 'model': 'runs/20260401-nano'}\n"
        "assert client.post('/api/models/plan', json=form).json()['problem'] is None\n"
        "print([name for name in ('torch', 'transformers', 'tokenizers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
