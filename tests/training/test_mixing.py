"""A run on several sources: the file of a mixture, what is said about it, and weights that change at a resume."""

import dataclasses

import pytest

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.data.mixture_file import MixtureChange, MixturePlan, MixtureSource, write_mixture_file
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.training.data_arguments import parse_sources
from mamba_slm.training.mixing import mixture_of
from mamba_slm.training.prepare import prepare_data
from mamba_slm.training.run import train
from training.test_resume import losses_of, write_text
from training.train_process import config


@pytest.fixture
def two(tmp_path):
    return {name: str(write_text(tmp_path / f"{name}.txt", seed=seed)) for seed, name in enumerate(("low", "high"))}


def data(two, low, high):
    return (f"low={two['low']}:{low}", f"high={two['high']}:{high}")


def settings(tmp_path, two, weights=(1, 3), steps=12, **more):
    return dataclasses.replace(config("", steps), data=data(two, *weights), validation_share=0.0, **more)


def test_a_run_says_what_its_sources_contribute_and_which_are_read_too_often(tmp_path, two):
    said = []
    train(settings(tmp_path, two, max_tokens=400_000, max_steps=2), run=tmp_path / "short", say=said.append)
    assert not any("careful" in line for line in said)
    (table,) = [line for line in said if line.startswith("source")]
    assert "low     25.00%" in table and "epochs" in table


def test_a_run_that_ends_by_time_says_afterwards_what_it_read(tmp_path, two):
    said = []
    limited = dataclasses.replace(settings(tmp_path, two), max_steps=None, max_minutes=0.02)
    train(limited, run=tmp_path / "timed", say=said.append)
    tables = [line for line in said if line.startswith("source")]
    assert ["epochs" in table.splitlines()[0] for table in tables] == [False, True]


def test_too_many_epochs_are_warned_of_before_the_first_step(run_of, two, tmp_path):
    prepared = run_of(data(two, 1, 1))
    (warning, _) = mixture_of(prepared, config("", 1)).warnings(10_000)
    assert "times; text read more than 4 times teaches little" in warning


@pytest.fixture
def run_of(tmp_path):
    def prepare(arguments):
        run = RunDirectory(tmp_path / "prepared")
        run.path.mkdir()
        return prepare_data(arguments, run, vocab_size=300, validation_share=0.0, say=lambda line: None)

    return prepare


def test_a_mixture_file_gives_sources_weights_and_changes(tmp_path, two, run_of):
    file = tmp_path / "mixture.yaml"
    sources = {name: MixtureSource(path=path, weight=1.0) for name, path in two.items()}
    change = MixtureChange(from_tokens=3200, weights={"low": 1.0})
    write_mixture_file(file, MixturePlan(sources=sources, changes=(change,)))
    assert [(source.name, source.weight) for source in parse_sources([str(file)])] == [("low", 1.0), ("high", 1.0)]
    mixture = mixture_of(run_of([str(file)]), config("", 1))
    assert mixture.drawn(100) == {"high": 50, "low": 50}
    assert mixture.drawn(180) == {"high": 50, "low": 130}
    with pytest.raises(ConfigError, match="give it alone"):
        parse_sources([str(file), two["low"]])


def test_a_run_on_a_mixture_file_is_the_run_on_the_same_sources_and_weights(tmp_path, two):
    file = tmp_path / "mixture.yaml"
    sources = {name: MixtureSource(path=path, weight=w) for (name, path), w in zip(two.items(), (1, 3), strict=True)}
    write_mixture_file(file, MixturePlan(sources=sources))
    runs = tmp_path / "by-file", tmp_path / "by-words"
    for run, given in zip(runs, ((str(file),), data(two, 1, 3)), strict=True):
        words = dataclasses.replace(config("", 4), data=given, validation_share=0.0)
        train(words, run=run, say=lambda line: None)
    first, second = (losses_of(RunDirectory(run)) for run in runs)
    assert first == second and len(first) == 4


def test_a_mixture_file_with_a_folder_that_is_not_there_names_it(tmp_path):
    file = tmp_path / "mixture.yaml"
    write_mixture_file(file, MixturePlan(sources={"a": MixtureSource(path=str(tmp_path / "gone"))}))
    with pytest.raises(DataError, match="gone does not exist"):
        parse_sources([str(file)])


def test_weights_for_some_sources_only_are_refused_before_anything_is_written(tmp_path, two):
    arguments = (f"low={two['low']}:2", f"high={two['high']}")
    with pytest.raises(ConfigError, match="high has none"):
        train(dataclasses.replace(config("", 4), data=arguments), run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_weights_that_change_at_a_resume_hold_from_there_on_and_the_past_stays(tmp_path, two):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(settings(tmp_path, two, steps=10), run=whole, say=lambda line: None)
    train(settings(tmp_path, two, steps=10, max_tokens=640), run=cut, say=lambda line: None)
    said = []
    changed = settings(tmp_path, two, weights=(3, 1), steps=10)
    train(changed, run=cut, resume=True, say=said.append)
    assert any("weights of the sources change at row 20: high 25.00%, low 75.00%" in line for line in said)
    first, second = (losses_of(RunDirectory(path)) for path in (whole, cut))
    assert [step for step, _ in second] == list(range(1, 11))
    assert first[9] != second[9]
