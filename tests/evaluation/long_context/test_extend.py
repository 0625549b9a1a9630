"""Promises of extending: longer rows are trained, the curves are of the same text, the result is a model folder."""

import dataclasses
import inspect
import json
import textwrap

import pytest

from mamba_slm.cli.main import main
from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.evaluation.long_context.extend import extend
from mamba_slm.model.checkpoint import load_config, load_model
from mamba_slm.training.config import TrainConfig
from small_models import save_small_model


@pytest.fixture
def folder(tmp_path):
    return save_small_model(tmp_path / "small", max_context_tokens=48)


@pytest.fixture
def text(tmp_path):
    """A few documents, so that some are held out."""
    for number, module in enumerate((inspect, textwrap, json, json.decoder, json.encoder, dataclasses)):
        (tmp_path / "text").mkdir(exist_ok=True)
        (tmp_path / "text" / f"{number}.py").write_text(inspect.getsource(module))
    return tmp_path / "text"


def settings(text, **changes):
    values = {
        "data": (str(text),), "context_tokens": 96, "batch_tokens": 192, "max_tokens": 1920, "validation_share": 0.3,
        "device": "cpu", "precision": "fp32", "kernels": "torch", "threads": 1, "sample_every_steps": 0,
        "learning_rate": 3e-3,
    }  # fmt: skip
    return TrainConfig(**{**values, **changes})


@pytest.mark.slow
@pytest.mark.parametrize("method", ["yarn", "none"])
def test_the_model_reads_more_and_the_curves_say_what_it_costs(folder, text, tmp_path, method):
    extension = extend(
        folder, settings(text), context_tokens=96, method=method, run=tmp_path / "run", say=lambda line: None
    )
    config = load_config(tmp_path / "run" / "model")
    assert (config.max_context_tokens, config.rope_scaling) == (96, method)
    assert list(extension.curves) == (["before", "stretched", "after"] if method == "yarn" else ["before", "after"])
    assert [one.end for one in extension.curves["after"]][-1] == 96
    assert extension.training_tokens == 1920
    before, after = (sum(one.loss * one.num_tokens for one in extension.curves[name]) for name in ("before", "after"))
    assert after < before
    stored = json.loads((tmp_path / "run" / "extend.json").read_text())
    assert stored["improvement_nats"] == pytest.approx(extension.improvement())
    assert (tmp_path / "run" / "extend.svg").read_text().startswith("<svg")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["kind"] == "extend"


def test_training_begins_with_the_weights_that_it_was_given(folder, text, tmp_path):
    from mamba_slm.training.run import train

    config = settings(text, initial=str(folder), context_tokens=48, max_tokens=192, learning_rate=1e-12)
    train(config, run=tmp_path / "run", say=lambda line: None)
    first, after = load_model(folder).state_dict(), load_model(tmp_path / "run").state_dict()
    assert all((first[name] - after[name]).abs().max() < 1e-6 for name in first)
    with pytest.raises(ConfigError, match="pattern is given"):
        train(dataclasses.replace(config, pattern="M-"), run=tmp_path / "other", say=lambda line: None)


def test_what_cannot_be_extended_is_refused_before_anything_is_written(folder, text, tmp_path, capsys):
    command = ["extend", str(folder), "--data", str(text), "--out", str(tmp_path / "run")]
    assert main([*command, "--to", "48"]) == 2
    assert "is made for 48 tokens already" in capsys.readouterr().err
    assert main([*command, "--to", "manyx"]) == 2
    assert not (tmp_path / "run").exists()
    with pytest.raises(DataError, match="no text is held out"):
        extend(folder, settings(text, validation_share=0), context_tokens=96, run=tmp_path / "r", say=lambda line: None)


@pytest.mark.slow
def test_the_command_prints_the_curves_and_where_the_model_is(folder, text, tmp_path, capsys):
    out = tmp_path / "run"
    command = ["extend", str(folder), "--to", "2x", "--data", str(text), "--train-tokens", "960", "--out", str(out)]
    assert main([*command, "--precision", "fp32", "--device", "cpu", "--validation-share", "0.3"]) == 0
    printed = capsys.readouterr().out
    assert "perplexity at positions" in printed and "72 to 96" in printed
    assert f"{out}/model, for 96 tokens (yarn)" in printed


def test_a_probe_is_printed_plotted_and_reads_a_stretched_model(folder, tmp_path, capsys):
    out = tmp_path / "probe.json"
    command = ["probe", str(folder), "--lengths", "100,200", "--times", "2", "--depths", "0,1", "--out", str(out)]
    assert main(command) == 2
    assert "--context-tokens" in capsys.readouterr().err
    assert main([*command, "--context-tokens", "200", "--rope-scaling", "yarn", "--runtime", "torch"]) == 0
    printed = capsys.readouterr()
    assert "stretched by yarn from 48 to 200 tokens" in printed.err
    assert printed.out.count("needle") == 4 and printed.out.count("recall") == 2
    assert len(json.loads(out.read_text())["results"]) == 6
    assert out.with_suffix(".svg").read_text().startswith("<svg")
    assert main(["probe", str(folder), "--tasks", "needel"]) == 2
    assert "--tasks needle,recall" in capsys.readouterr().err
