import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mamba_slm.core.config import to_dict
from mamba_slm.model.count import count_parameters
from mamba_slm.model.presets import preset
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.presets import train_preset
from mamba_slm.training.report_cards import CONTEXTS, explain_settings, write_report_cards

FIXTURE = Path(__file__).parents[1] / "runs" / "fixtures" / "version-1"


@pytest.fixture
def run(tmp_path):
    return RunDirectory(Path(shutil.copytree(FIXTURE, tmp_path / "run")))


def test_defaults_are_those_of_the_preset():
    facts = explain_settings({"train": {"model": "nano"}})
    assert facts.defaults["train.batch_tokens"] == train_preset("nano")["batch_tokens"]
    assert facts.defaults["train.clip_norm"] == TrainConfig().clip_norm
    assert facts.defaults["model.hidden_size"] == preset("nano").hidden_size
    assert facts.defaults_of == "preset nano"


def test_the_model_is_taken_apart_as_it_is():
    config = preset("nano")
    facts = explain_settings({"model": {**to_dict(config), "of a later version": 1}})
    assert sum(facts.parameters.values()) == count_parameters(config).total
    assert [tokens for tokens, _, _ in facts.context_memory] == list(CONTEXTS)
    assert all(own < twin for _, own, twin in facts.context_memory)
    assert explain_settings({"model": to_dict(preset("nano", pattern="*-"))}).context_memory == ()


@pytest.mark.parametrize("config", [{}, {"train": 5, "model": "x"}, {"train": {"model": ["?"]}, "model": {}}])
def test_settings_that_cannot_be_read_leave_the_general_defaults(config):
    facts = explain_settings(config)
    assert facts.defaults_of == "the package" and not facts.parameters and "train.seed" in facts.defaults


def test_both_cards_are_written(run):
    said = []
    assert write_report_cards(run, say=said.append) == [run.report_file, run.page_file]
    assert run.page_file.read_text(encoding="utf-8").startswith("<!doctype html>") and not said


def test_a_card_that_cannot_be_written_is_said_and_the_other_one_is_there(run):
    run.page_file.mkdir()
    said = []
    assert write_report_cards(run, say=said.append) == [run.report_file]
    assert len(said) == 1 and f"try again: mamba-slm report {run.path}" in said[0]


def test_the_cards_need_no_torch(run):
    program = (
        "import sys; from mamba_slm.training.report_cards import write_report_cards as write; "
        "assert len(write(sys.argv[1], say=print)) == 2; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, run.path], check=True)
