"""Tracing some steps of a run: which, what is written, and that the run does not notice."""

import gzip
import json

import pytest

from mamba_slm.core.errors import ConfigError
from mamba_slm.model.init import build_model
from mamba_slm.runs.metrics import read_metrics
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.profiling.hook import profiled
from mamba_slm.training.profiling.ranges import named_ranges
from mamba_slm.training.profiling.steps import StepRange, parse_steps
from mamba_slm.training.profiling.tables import KindTime, Operation, Profile, kind_table, operation_table
from training.small_run import TINY


@pytest.fixture
def profiled_run(make_trainer):
    def run(name, steps, *, resume=False, **settings):
        trainer = make_trainer(name, profile_steps=steps, **settings)
        with profiled(trainer.config, trainer.model, trainer.run, trainer.say) as hooks:
            trainer.hooks = hooks
            trainer.train(resume=resume)
        return trainer

    return run


def losses(trainer):
    return [row["loss"] for row in read_metrics(trainer.run.metrics_file, kind="train")]


def test_a_profile_has_a_trace_and_tables_and_changes_no_loss(profiled_run):
    trainer = profiled_run("profiled", "3:5", max_steps=7, gradient_checkpointing=True)
    folder = trainer.run.path / "profile"
    assert sorted(file.name for file in folder.iterdir()) == [
        "steps-3-5.json", "steps-3-5.md", "steps-3-5.trace.json.gz",
    ]  # fmt: skip
    trace = json.loads(gzip.decompress((folder / "steps-3-5.trace.json.gz").read_bytes()))
    names = {event.get("name") for event in trace["traceEvents"]}
    assert {"forward of Mamba-2", "backward of attention", "backward of feed-forward", "forward pass"} <= names
    numbers = json.loads((folder / "steps-3-5.json").read_text())
    kinds = {kind["name"]: kind for kind in numbers["kinds"]}
    assert set(kinds) == {"Mamba-2", "attention", "feed-forward"}
    assert kinds["feed-forward"]["calls"] >= 2 * kinds["Mamba-2"]["calls"] > 0  # as in the pattern M-*-
    parts = [kind["forward_seconds"] + kind["backward_seconds"] for kind in kinds.values()]
    assert all(part > 0 for part in parts) and sum(parts) <= numbers["wall_seconds"]
    assert numbers["optimizer_seconds"] > 0
    said = "\n".join(trainer.lines)
    assert "| Mamba-2 |" in said and "aten::" in said and "perfetto" in said
    plain = profiled_run("plain", None, max_steps=7, gradient_checkpointing=True)
    assert losses(plain) == losses(trainer)
    assert not (plain.run.path / "profile").exists()


def test_a_run_that_ends_early_or_is_resumed_within_writes_the_steps_that_there_were(profiled_run):
    trainer = profiled_run("cut", "3:9", max_steps=4)
    assert (trainer.run.path / "profile" / "steps-3-4.md").is_file()
    resumed = profiled_run("cut", "3:9", max_steps=6, resume=True)
    assert (resumed.run.path / "profile" / "steps-5-6.md").is_file()
    passed = profiled_run("cut", "3:5", max_steps=8, resume=True)
    assert len(list((passed.run.path / "profile").glob("*.md"))) == 2


def test_sublayers_have_their_names_only_within_the_block_and_compiled_ones_have_none():
    model = build_model(TINY)
    with named_ranges(model) as can_name:
        assert can_name and model.sublayers[0]._forward_hooks
    assert not model.sublayers[0]._forward_hooks and not model.sublayers[0]._backward_hooks
    assert "loss_sum" not in vars(model)
    model.sublayers[0]._compiled_call_impl = model.sublayers[0]._call_impl  # as `compile()` does, without its compiler
    with named_ranges(model) as can_name:
        assert not can_name and not model.sublayers[1]._forward_hooks


@pytest.mark.parametrize("text", ["ten", "10:", "0:3", "5:4", "1:1000", "1-5"])
def test_steps_that_cannot_be_profiled_are_refused_with_the_setting(text):
    with pytest.raises(ConfigError, match="profile_steps"):
        TrainConfig(profile_steps=text)


def test_one_step_can_be_profiled():
    assert parse_steps("12") == StepRange(first=12, last=12)


def test_the_tables_account_for_all_of_the_time():
    profile = Profile(
        steps=StepRange(first=1, last=2),
        device="CPU",
        wall_seconds=2.0,
        kinds=[KindTime(name="Mamba-2", forward_seconds=0.4, backward_seconds=0.6, calls=8)],
        head_seconds=0.3,
        optimizer_seconds=0.1,
        operations=[Operation(name="aten::mm", calls=20, seconds=0.5)],
        trace="t",
    )
    rows = [line.split("|") for line in kind_table(profile).splitlines()[2:]]
    shares = [float(row[-2].strip(" %")) for row in rows]
    assert sum(shares[:-1]) == pytest.approx(shares[-1]) == pytest.approx(100)
    assert rows[0][2].strip() == "4" and rows[0][5].strip() == "500.0"
    assert "10 | 250.00 | 25.0%" in operation_table(profile)
