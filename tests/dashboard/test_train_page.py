"""The form of a training gives the command line that a terminal would use, and what it takes."""

import shlex
import time

import pytest

from dashboard.made_runs import client_of, make_run, parse
from mamba_slm.cli.train import settings_of
from mamba_slm.core.errors import ConfigError
from mamba_slm.dashboard.forms import TrainForm
from mamba_slm.runs.jobs import list_jobs
from mamba_slm.runs.lock import RunLock
from mamba_slm.runs.status import Status, write_status

OWN = {"Origin": "http://localhost:8888"}


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "my text.txt"
    file.write_text("Once upon a time.\n" * 100)
    return file


def plan(home, **form):
    return client_of(home).post("/api/train/plan", json=form, headers=OWN).json()


def test_the_command_shown_means_the_settings_typed(tmp_path, text):
    found = plan(
        tmp_path, preset="tiny", data=f"{text}\n\n", limit="tokens", amount="2M", context_tokens="256",
        batch_tokens="8Ki", learning_rate="1e-3", name="mine", more="--schedule wsd --prompts 'Once upon'",
    )  # fmt: skip
    assert found["problem"] is None
    words = shlex.split(found["command"])
    config, _ = settings_of(parse(words[1:]), None)
    assert (config.model, config.data, config.max_tokens) == ("tiny", (str(text),), 2_000_000)
    assert (config.context_tokens, config.batch_tokens, config.learning_rate) == (256, 8192, 1e-3)
    assert (config.schedule, config.prompts) == ("wsd", ("Once upon",))
    assert words[-2:] == ["--out", str(tmp_path / "mine")]
    assert found["estimate"]["memory_bytes"] > 0 and found["estimate"]["steps"] > 0
    assert found["dry_run"] == found["command"] + " --dry-run"


def test_without_data_there_is_an_estimate_and_a_reason_not_to_begin(tmp_path):
    found = plan(tmp_path, preset="1.3B", limit="tokens", amount="30B")
    assert "no training data" in found["problem"] and "--data" not in found["problem"], "a form has no flags"
    assert found["estimate"]["parameters"] > 1e9
    assert client_of(tmp_path).post("/api/train/start", json={"preset": "nano"}, headers=OWN).status_code == 400
    assert list_jobs(tmp_path) == []


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"preset": "nanp"}, "nano"),
        ({"more": "--learning-rat 1"}, "did you mean"),
        ({"more": "--out elsewhere"}, "not for this form"),
        ({"more": "--launcher=slurm"}, "not for this form"),
        ({"more": "'open"}, "quote"),
        ({"name": "../elsewhere"}, "not a usable run name"),
        ({"name": ".hidden"}, "not a usable run name"),
        ({"name": "x" * 101}, "at most 100"),
        ({"amount": "lots"}, "lots"),
        ({"context_tokens": "1000000"}, "context"),
        ({"data": "no/such/file"}, "no/such/file"),
        ({"preset": "--help"}, "not a size"),
        ({"more": "--help"}, "not for this form"),
    ],
)
def test_what_the_command_line_would_refuse_is_said_while_typing(tmp_path, text, form, said):
    assert said in plan(tmp_path, **{"data": str(text), **form})["problem"]


def test_a_form_with_other_fields_or_values_is_refused():
    for body in ({"evil": "x"}, {"preset": 1}, {"data": "x" * 5000}, {"limit": "forever"}):
        with pytest.raises(ConfigError):
            TrainForm.of(body)


def test_a_name_that_is_taken_is_not_taken_again(tmp_path, text):
    make_run(tmp_path, "taken")
    assert "taken" in plan(tmp_path, data=str(text), name="taken")["problem"]
    today = time.strftime("%Y%m%d")
    (tmp_path / f"{today}-nano").mkdir()
    assert plan(tmp_path, data=str(text))["name"] in (f"{today}-nano-2", f"{time.strftime('%Y%m%d')}-nano")


def test_the_name_of_a_run_that_took_no_step_may_be_used_again_as_in_a_terminal(tmp_path, text):
    run = make_run(tmp_path, "mine", state="failed", steps=0, samples=())
    (run.checkpoint_folder(0) / "config.json").unlink()
    run.checkpoint_folder(0).rmdir()
    assert plan(tmp_path, data=str(text), name="mine")["problem"] is None
    with RunLock(run):
        write_status(run.status_file, Status(state="running", step=0, message="preparing"))
        assert "already" in plan(tmp_path, data=str(text), name="mine")["problem"]
    make_run(tmp_path, "other", state="failed")
    assert "already" in plan(tmp_path, data=str(text), name="other")["problem"]


def test_times_come_from_earlier_runs_on_this_computer(tmp_path, text):
    import dataclasses
    import platform

    from mamba_slm.runs.record import read_record, write_record

    run = make_run(tmp_path)
    form = {"data": str(text), "limit": "steps", "amount": "100", "batch_tokens": "512"}
    before = plan(tmp_path, **form)["estimate"]
    record = dataclasses.replace(
        read_record(run.record_file),
        hardware={"system": f"{platform.system()} {platform.release()}"},
        estimate={"flops_per_token": before["flops_per_token"]},
        result={"tokens": 1000.0, "seconds": 2.0},
    )
    write_record(run.record_file, record)
    after = plan(tmp_path, **form)["estimate"]
    if before["seconds"] is None:
        assert after["tokens_per_second"] == pytest.approx(500)
        assert after["seconds"] == pytest.approx(100 * 512 / 500)
        assert "1 earlier run" in after["how"]


def test_planning_loads_no_torch(tmp_path, text):
    import subprocess
    import sys

    code = (
        "import sys\nfrom mamba_slm.cli.dashboard_plan import plan_of_training\n"
        f"assert plan_of_training(['nano', '--data', {str(text)!r}])['estimate']\n"
        "print([name for name in ('torch', 'transformers', 'tokenizers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_read_only_plans_and_starts_nothing(tmp_path, text):
    client = client_of(tmp_path, is_read_only=True)
    assert client.post("/api/train/start", json={"data": str(text)}, headers=OWN).status_code == 400
    assert list_jobs(tmp_path) == []
    assert 'id="start"' not in client.get("/train").text
