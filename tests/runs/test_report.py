import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import UsageError
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.metrics import MetricsWriter
from mamba_slm.runs.report import SECTIONS, render_report, write_report
from mamba_slm.runs.status import Status, write_status

FIXTURES = Path(__file__).parent / "fixtures"
GOLDEN = FIXTURES / "report-of-version-1.md"
HEADINGS = [heading for heading, _ in SECTIONS]
OPTIONAL = {"Before and after", "What happened", "Benchmarks", "Layers", "Sources"}
PARTS = ["run.json", "config.yaml", "data.json", "status.json", "metrics.jsonl", "samples.jsonl", "evaluation.json"]


@pytest.fixture
def finished(tmp_path) -> RunDirectory:
    return RunDirectory(Path(shutil.copytree(FIXTURES / "version-1", tmp_path / "20260401-nano")))


def edit_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def headings_of(report):
    return re.findall(r"^## (.+)$", report, flags=re.MULTILINE)


def section_of(report, heading):
    return re.search(rf"^## {heading}\n\n(.*?)(?=^## |\Z)", report, flags=re.MULTILINE | re.DOTALL)[1]


def test_the_card_of_a_frozen_run_does_not_change_unnoticed(finished):
    assert render_report(finished) == GOLDEN.read_text(encoding="utf-8")


def test_the_card_depends_on_the_folder_alone(finished):
    program = "import sys; from mamba_slm.runs import report; sys.stdout.write(report.render_report(sys.argv[1]))"
    environment = {"PATH": "/usr/bin", "TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "1"}
    other = subprocess.run(
        [sys.executable, "-c", program, finished], capture_output=True, check=True, env=environment, cwd="/"
    )
    assert other.stdout.decode("utf-8") == render_report(finished)


def test_writing_the_card_does_not_change_the_next_one(finished):
    path = write_report(finished)
    first = path.read_bytes()
    (finished.path / ".metrics.jsonl.tmp").write_text("left by a kill")
    finished.lock_file.write_text("{}")
    assert write_report(finished).read_bytes() == first
    assert path == finished.report_file


def test_the_card_names_the_baselines_it_beats_and_those_it_does_not(finished):
    verdict = section_of(render_report(finished), "Verdict")
    beaten, lost = verdict.split("does not beat")
    assert "⚠ 1.583 bits per byte: beats 3 of 4 baselines" in beaten
    assert "gzip" in beaten and "all files together" in beaten
    assert "trigram" in lost and "gzip" not in lost


@pytest.mark.parametrize(
    "own, symbol, table_cell", [(1.0, "✓", "✓ 33.3% better"), (2.0, "✗", "✗ 33.3% worse"), (1.5, "✗", "the same")]
)
def test_better_worse_and_equal_are_told_apart(finished, own, symbol, table_cell):
    rows = [{"name": "model", "bits_per_byte": own, "bytes": 9}, {"name": "gzip", "bits_per_byte": 1.5, "bytes": 9}]
    finished.evaluation_file.write_text(json.dumps(rows))
    report = render_report(finished)
    assert re.search(rf"^- {symbol} {own:.3f} bits per byte", report, flags=re.MULTILINE)
    assert f"| gzip | 1.500 | {table_cell} |" in report


def test_rows_measured_on_different_bytes_are_said_not_to_compare(finished):
    rows = [{"name": "model", "bits_per_byte": 1.0, "bytes": 9}, {"name": "gzip", "bits_per_byte": 1.5, "bytes": 8}]
    finished.evaluation_file.write_text(json.dumps(rows))
    assert "do not compare" in section_of(render_report(finished), "Result")


def test_baselines_without_the_model_claim_nothing(finished):
    finished.evaluation_file.write_text(json.dumps([{"name": "gzip", "bits_per_byte": 1.5, "bytes": 8}]))
    report = render_report(finished)
    assert "not evaluated" in section_of(report, "Verdict")
    assert "| gzip | 1.500 | – |" in report


def test_a_model_without_baselines_says_so(finished):
    finished.evaluation_file.write_text(json.dumps([{"name": "model", "bits_per_byte": 1.5, "bytes": 8}]))
    assert "no baseline was measured" in render_report(finished)


@pytest.mark.parametrize("missing", PARTS)
def test_a_run_that_lost_a_file_has_a_card_that_says_so(finished, missing):
    (finished.path / missing).unlink()
    report = render_report(finished)
    assert f"`{missing}` is missing" in section_of(report, "What is missing")
    assert set(headings_of(report)) >= set(HEADINGS) - OPTIONAL


@pytest.mark.parametrize("kept", ["run.json", "status.json", "metrics.jsonl"])
def test_one_file_is_enough_for_a_card(finished, kept):
    for name in PARTS:
        if name != kept:
            (finished.path / name).unlink()
    report = render_report(finished)
    assert report.startswith("# 20260401-nano — report card")
    assert section_of(report, "What is missing").count("is missing") == len(PARTS) - 1


def test_a_run_that_has_only_begun_has_a_card(run):
    write_status(run.status_file, Status(state="running", heartbeat=1775000000.0))
    report = render_report(run)
    assert "not finished: at step 0 when last heard of, 2026-03-31 23:33:20 UTC" in report
    assert "no training step recorded" in report
    assert "No step is recorded yet." in report


def test_half_a_run_shows_what_it_has_so_far(finished):
    finished.evaluation_file.unlink()
    edit_json(finished.record_file, result=None)
    edit_json(finished.status_file, state="stopped", step=10, message="SIGINT")
    with MetricsWriter(finished.metrics_file) as writer:
        writer.truncate_after(25)
    report = render_report(finished)
    assert "⚠ stopped at step 10: SIGINT" in report
    assert "⚠ 205k of 328k planned tokens (62%)" in report
    assert "Real: so far" in section_of(report, "Plan and outcome")
    assert "Not evaluated beside baselines. The last validation: " in report
    assert "mamba-slm runs resume 20260401-nano" in section_of(report, "The same again")


def test_a_failed_run_says_why(finished):
    edit_json(finished.status_file, state="failed", message="the loss became nan at step 41")
    assert "✗ failed at step 40: the loss became nan at step 41" in render_report(finished)


def test_a_nan_is_a_verdict_with_its_step(finished):
    with MetricsWriter(finished.metrics_file) as writer:
        writer.append({"kind": "train", "step": 41, "loss": float("nan")})
    verdict = section_of(render_report(finished), "Verdict")
    assert "✗ the loss was NaN or infinite at 1 step, first 41" in verdict
    assert "every recorded loss is finite" not in verdict


def test_spikes_and_divergence_are_told_with_their_text(finished):
    with MetricsWriter(finished.events_file) as writer:
        writer.append({"step": 40, "event": "diverged", "text": "step 41: the loss became nan"})
    report = render_report(finished)
    assert "⚠ 1 loss spike" in report
    assert "✗ it diverged" in report
    assert "step 41: the loss became nan" in section_of(report, "What happened")


def test_a_quiet_run_says_so(finished):
    finished.events_file.unlink()
    report = render_report(finished)
    assert "✓ every recorded loss is finite, no spike" in report
    assert "What happened" not in headings_of(report)


def test_of_many_events_the_last_are_shown_and_the_others_counted(finished):
    with MetricsWriter(finished.events_file) as writer:
        for step in range(50):
            writer.append({"step": step, "event": "overflow", "text": f"overflow number {step}"})
    happened = section_of(render_report(finished), "What happened")
    assert "overflow number 49" in happened
    assert "overflow number 3 " not in happened
    assert "31 earlier events" in happened


def test_a_validation_loss_that_rose_again_is_a_warning(finished):
    with MetricsWriter(finished.metrics_file) as writer:
        writer.append({"kind": "validation", "step": 41, "tokens": 1, "loss": 3.9})
    assert "⚠ validation loss was 3.371 at step 40 and ends at 3.900" in render_report(finished)


def test_a_spike_stays_visible_in_the_loss_table(finished):
    highest = max(row["loss"] for row in map(json.loads, finished.metrics_file.read_text().splitlines()[22:24]))
    assert f" {highest:.3f} " in section_of(render_report(finished), "Loss")


def test_a_long_run_keeps_a_short_card(finished):
    with MetricsWriter(finished.metrics_file) as writer:
        for step in range(41, 5000):
            writer.append({"kind": "train", "step": step, "tokens": step, "seconds": float(step), "loss": 3.0})
    with MetricsWriter(finished.samples_file) as writer:
        for step in range(60, 1000, 20):
            for prompt in "abcdef":
                writer.append({"step": step, "tokens": step, "prompt": prompt, "text": "long " * 1000})
    report = render_report(finished)
    assert len(report.splitlines()) < 400
    assert "step 980" in report
    assert "4 more prompts in `samples.jsonl`" in report


def test_hostile_text_stays_inside_its_block(finished):
    text = "```\n# Not a heading\n## Verdict\n| a |\x1b[2J"
    with MetricsWriter(finished.samples_file) as writer:
        writer.append({"step": 60, "tokens": 1, "prompt": "`x`|\n# y", "text": text})
    report = render_report(finished)
    assert "\x1b" not in report
    assert "````text\n```\n# Not a heading" in report


def test_it_shows_how_to_run_it_again(finished):
    again = section_of(render_report(finished), "The same again")
    assert "mamba-slm quickstart --data 'my notes.txt'" in again
    assert all(fact in again for fact in ("torch 2.11.0", "`4f2a00000000`", "seed 7", "Example CPU"))


def test_a_folder_without_a_run_has_no_card(tmp_path):
    with pytest.raises(UsageError, match="no run"):
        render_report(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**12) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)


def paths_of(value, path=()):
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from paths_of(child, (*path, key))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(draw=st.data())
def test_whatever_a_value_in_a_file_is_there_is_a_card(finished, draw):
    name = draw.draw(st.sampled_from(PARTS))
    path = finished.path / name
    original = path.read_text()
    suffix, lines = path.suffix, []
    if suffix == ".jsonl":
        *lines, last = [line for line in original.splitlines() if line.endswith("}")]
        value = json.loads(last)
    elif suffix == ".json":
        value = json.loads(original)
    else:
        import yaml

        value = yaml.safe_load(original)
    places = [place for place in paths_of(value) if place and place[-1] != "format_version"]
    place, new = draw.draw(st.sampled_from(places)), draw.draw(JSON)
    holder = value
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = new
    try:
        path.write_text("\n".join([*lines, json.dumps(value)]) + "\n")
        assert render_report(finished).startswith("# ")
    finally:
        path.write_text(original)
