"""What a run read is on record: every change of the weights of its sources is an event of the run, once."""

import dataclasses

import pytest

from mamba_slm.data.mixture_file import MixtureChange, MixturePlan, MixtureSource, write_mixture_file
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.metrics import read_metrics
from mamba_slm.training.run import train
from training.test_mixing import settings
from training.test_resume import write_text
from training.train_process import config


@pytest.fixture
def two(tmp_path):
    return {name: str(write_text(tmp_path / f"{name}.txt", seed=seed)) for seed, name in enumerate(("low", "high"))}


def changes_of(run):
    return [row for row in read_metrics(RunDirectory(run).events_file) if row["kind"] == "mixture"]


def test_a_planned_change_is_recorded_in_the_step_that_reaches_it_and_not_again_at_a_resume(tmp_path, two):
    file = tmp_path / "mixture.yaml"
    sources = {name: MixtureSource(path=path, weight=1.0) for name, path in two.items()}
    change = MixtureChange(from_tokens=320, weights={"low": 1.0})
    write_mixture_file(file, MixturePlan(sources=sources, changes=(change,)))
    said = []
    settings = dataclasses.replace(config("", 10), data=(str(file),), validation_share=0.0, schedule="constant")
    train(dataclasses.replace(settings, max_steps=7), run=tmp_path / "run", say=said.append)
    train(settings, run=tmp_path / "run", resume=True, say=said.append)
    (event,) = changes_of(tmp_path / "run")
    rows = 320 // settings.context_tokens
    assert (event["row"], event["tokens"]) == (rows, 320)
    assert event["step"] == -(-320 // settings.batch_tokens)
    assert event["shares"] == {"high": 0.0, "low": 1.0}
    assert event["rows_before"] == {"high": rows // 2, "low": rows // 2}
    assert len([line for line in said if line.startswith("the weights of the sources change")]) == 1


def test_a_change_that_a_resume_brings_is_recorded_and_said_once(tmp_path, two):
    train(settings(tmp_path, two, steps=10, max_tokens=640), run=tmp_path / "run", say=lambda line: None)
    assert changes_of(tmp_path / "run") == []
    said = []
    changed = settings(tmp_path, two, weights=(3, 1), steps=12)
    train(dataclasses.replace(changed, max_steps=11), run=tmp_path / "run", resume=True, say=said.append)
    train(changed, run=tmp_path / "run", resume=True, say=said.append)
    (event,) = changes_of(tmp_path / "run")
    assert (event["row"], event["step"], event["shares"]) == (20, 5, {"high": 0.25, "low": 0.75})
    assert len([line for line in said if line.startswith("the weights of the sources change")]) == 1
