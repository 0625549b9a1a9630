import json
import shutil
from pathlib import Path

from mamba_slm.runs.lock import RunLock
from mamba_slm.runs.metrics import MetricsWriter
from mamba_slm.runs.status import Status, write_status
from mamba_slm.runs.summary import RunSummary, evaluated_bits_per_byte, flat_settings, summarize

FIXTURE = Path(__file__).parent / "fixtures" / "version-1"


def test_a_finished_run_is_summed_up_by_its_results():
    summary = summarize(FIXTURE)
    assert (summary.kind, summary.state, summary.step) == ("quickstart", "done", 40)
    assert (summary.tokens, summary.seconds, summary.parameters) == (327_680, 79.5, 2_050_000)
    assert summary.bits_per_byte == 1.583
    assert summary.created == "2026-04-01T00:00:00Z"


def test_an_empty_run_says_nothing(run):
    summary = summarize(run)
    assert summary == RunSummary(
        name=run.name, path=str(run.path), state="unknown", message="", kind=None, created=None, step=None, tokens=None,
        seconds=None, loss=None, validation_loss=None, bits_per_byte=None, tokens_per_second=None, memory_bytes=None,
        parameters=None,
    )  # fmt: skip


def test_a_running_run_is_summed_up_by_its_latest_rows(run):
    with MetricsWriter(run.metrics_file) as writer:
        writer.append({"kind": "validation", "step": 1, "loss": 4.0, "bits_per_byte": 2.5})
        writer.append({"kind": "train", "step": 2, "tokens": 16, "loss": 3.5})
    write_status(run.status_file, Status(state="running", step=1, message="training"))
    with RunLock(run):
        summary = summarize(run)
    assert (summary.state, summary.message, summary.step, summary.tokens) == ("running", "training", 2, 16)
    assert (summary.loss, summary.validation_loss, summary.bits_per_byte) == (3.5, 4.0, 2.5)
    assert summarize(run).state == "crashed"


def test_files_that_cannot_be_read_do_not_break_a_list(tmp_path):
    path = Path(shutil.copytree(FIXTURE, tmp_path / "run"))
    for name in ("run.json", "status.json"):
        (path / name).write_text('{"format_version": 99}')
    (path / "evaluation.json").write_text("{")
    summary = summarize(path)
    assert (summary.state, summary.kind, summary.step) == ("unknown", None, 40)


def test_an_evaluation_without_the_model_gives_no_number(run):
    assert evaluated_bits_per_byte(run) is None
    run.evaluation_file.write_text(json.dumps([{"name": "gzip", "bits_per_byte": 2.0}]))
    assert evaluated_bits_per_byte(run) is None


def test_settings_become_dotted_keys():
    assert flat_settings({"model": {"a": {"b": 1}}, "seed": 7}) == {"model.a.b": 1, "seed": 7}
