"""Every objective from files to a folder that other commands take, with the run directory that `train` leaves."""

import json
import signal
import warnings
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from mamba_slm.core.errors import ConfigError, DataError, UnknownNameError
from mamba_slm.data.conversations.example import Labelled, Preference
from mamba_slm.finetuning.alignment.config import BETAS, OBJECTIVES, AlignConfig
from mamba_slm.finetuning.alignment.data import split_by_prompt
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.metrics import read_metrics
from mamba_slm.training.hooks import Hook
from small_models import save_complete_model

WORDS = ("return", "import", "self", "value", "class")


@pytest.fixture(autouse=True)
def warnings_of_others_are_not_ours(monkeypatch):
    """Deprecations inside these libraries are their authors' business; a warning about our model still fails."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with warnings.catch_warnings():
        for library in ("trl", "peft", "transformers", "accelerate", "datasets", "torch"):
            warnings.filterwarnings("ignore", module=rf"{library}(\.|$)")
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model, pairs and prompts."""
    folder = tmp_path_factory.mktemp("align")
    save_complete_model(folder / "model", max_context_tokens=96)
    words = [WORDS[number % len(WORDS)] for number in range(24)]
    pairs = [
        {"prompt": f"x{n} {word}", "chosen": f"{word} good", "rejected": f"not {word} at all"}
        for n, word in enumerate(words)
    ]
    write(folder / "pairs.jsonl", pairs)
    write(folder / "prompts.jsonl", [{"prompt": f"p{n}", "answer": str(n)} for n in range(10)])
    return folder


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def settings_of(files, objective, method="lora", **further):
    settings = {
        "model": str(files / "model"), "objective": objective, "method": method, "rank": 4, "max_steps": 4, "epochs": 9,
        "batch_examples": 8, "validate_every_steps": 2, "save_every_steps": 2, "sample_every_steps": 0,
        "device": "cpu", "kernels": "torch", "precision": "fp32", "learning_rate": 2e-3,
        "data": (str(files / ("prompts.jsonl" if objective == "grpo" else "pairs.jsonl")),),
    }  # fmt: skip
    if objective == "grpo":
        settings |= {"reward": ("length=6",), "group": 4, "batch_examples": 2, "max_new_tokens": 12}
    return AlignConfig(**(settings | further))


def run_of(config, run, **arguments):
    from mamba_slm.finetuning.alignment.run import align

    said = []
    result = align(config, run=run, command=("mamba-slm", "align"), say=said.append, **arguments)
    return result, said


class At(Hook):
    """Do something once, at the end of a step."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_step_end(self, view, report):
        if view.step == self.step:
            self.action()


QUICK = ("dpo", "grpo")
OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in OBJECTIVES if name not in (*QUICK, "reward")]


@pytest.mark.parametrize("objective", [*QUICK, *OTHERS])
def test_an_alignment_leaves_an_adapter_and_tells_what_it_changed(files, tmp_path, objective):
    result, said = run_of(settings_of(files, objective), tmp_path / "run")
    assert result.adapter is not None and (result.adapter / "adapter_model.safetensors").is_file()
    assert "gradients reach all 28 trained tensors" in said
    run = RunDirectory(tmp_path / "run")
    rows = list(read_metrics(run.metrics_file, kind="train"))
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    record = json.loads(run.record_file.read_text())
    assert record["kind"] == "align" and record["result"]["held_out"].keys() == {"before", "after"}
    assert (run.path / "before_after.json").is_file()
    if objective == "dpo":
        assert rows[0]["loss"] == pytest.approx(0.6931, abs=1e-4)
        assert rows[-1]["loss"] < rows[0]["loss"]
        after = result.measured.after.summary
        assert after["moved_right"]["hits"] == after["moved_right"]["count"] > 0
    if objective == "grpo":
        rollouts = [json.loads(line) for line in (run.path / "rollouts.jsonl").read_text().splitlines()]
        assert len(rollouts) == 4 * 2 * 4 and {row["step"] for row in rollouts} == {1, 2, 3, 4}


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["dpo", "grpo"])
def test_an_interrupted_alignment_goes_on_to_the_last_bit(files, tmp_path, objective):
    config = settings_of(files, objective, beta=0.1, full=("A_log", "conv"))
    whole, _ = run_of(config, tmp_path / "whole")
    cut, _ = run_of(config, tmp_path / "cut", hooks=[At(3, lambda: signal.raise_signal(signal.SIGINT))])
    assert cut.interrupted and cut.adapter is None
    resumed, _ = run_of(config, tmp_path / "cut", resume=True)
    left, right = (load_file(each.adapter / "adapter_model.safetensors") for each in (whole, resumed))
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert resumed.measured.before.columns == whole.measured.before.columns
    if objective == "grpo":
        both = [(tmp_path / name / "rollouts.jsonl").read_text() for name in ("whole", "cut")]
        assert both[0] == both[1]


@pytest.mark.slow
def test_all_weights_may_be_trained_and_the_reference_stays_what_it_was(files, tmp_path):
    result, _ = run_of(settings_of(files, "dpo", "full", learning_rate=1e-3), tmp_path / "run")
    assert result.adapter is None and (result.model / "model.safetensors").is_file()
    assert result.measured.after.summary["preference_loss"] < result.measured.before.summary["preference_loss"]
    held, _ = run_of(settings_of(files, "grpo", "full", beta=0.5, learning_rate=1e-3), tmp_path / "held")
    rows = list(read_metrics(RunDirectory(tmp_path / "held").metrics_file, kind="train"))
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-6) and rows[-1]["kl"] > 0
    assert held.model is not None


@pytest.mark.slow
def test_another_model_may_be_the_reference(files, tmp_path):
    tuned, _ = run_of(settings_of(files, "dpo", "full", learning_rate=1e-2), tmp_path / "tuned")
    config = settings_of(files, "dpo", reference=str(tuned.model))
    run_of(config, tmp_path / "run")
    first = next(iter(read_metrics(RunDirectory(tmp_path / "run").metrics_file, kind="train")))
    assert abs(first["loss"] - 0.6931) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_reward_model_learns_to_tell_answers_apart_and_rewards_them(files, tmp_path, method):
    from mamba_slm.finetuning.alignment.reward_model import ModelReward
    from mamba_slm.finetuning.rewards.rollout import Rollout

    config = settings_of(files, "reward", method, max_steps=12, learning_rate=1e-2)
    result, _ = run_of(config, tmp_path / "judge")
    after = result.measured.after
    assert after.summary["preferred"]["hits"] == after.summary["preferred"]["count"] > 0

    # what is loaded from the folder scores as what was trained
    judge = ModelReward(str(tmp_path / "judge"), device="cpu")
    pairs = [json.loads(line) for line in (files / "pairs.jsonl").read_text().splitlines()]
    asked = [
        Rollout(
            messages=({"role": "user", "content": pair["prompt"]},), completion=pair[side], num_tokens=1, finished=True
        )
        for side in ("chosen", "rejected")
        for pair in pairs
    ]
    scores = torch.tensor(judge.score(asked))
    known = torch.tensor(after.columns["chosen"] + after.columns["rejected"])
    assert all(float((scores - value).abs().min()) < 1e-4 for value in known)

    rewarded, _ = run_of(
        settings_of(files, "grpo", reward=(str(tmp_path / "judge"), "length=6"), reward_weights=(1.0, 0.1)),
        tmp_path / "run",
    )
    row = json.loads((rewarded.run / "rollouts.jsonl").read_text().splitlines()[0])
    assert row["rewards"].keys() == {"model", "length"}


def test_rewards_may_be_looked_at_before_any_training(files):
    from mamba_slm.finetuning.alignment.dry_reward import dry_rewards

    found = dry_rewards(settings_of(files, "grpo", reward=("length=6", "math")), answers=8, say=lambda line: None)
    assert len(found.rows) == 8 and found.rows[0]["rewards"].keys() == {"length", "math"}
    assert 0 <= found.useful_groups <= 1
    assert "of the groups of 4" in str(found)


def test_data_that_do_not_fit_the_reward_or_the_objective_are_refused_before_training(files, tmp_path):
    config = settings_of(files, "grpo", reward=("code",), data=(str(files / "pairs.jsonl"),))
    with pytest.raises(DataError, match="tests for every prompt"):
        run_of(replace(config), tmp_path / "code")
    with pytest.raises(DataError):
        run_of(settings_of(files, "dpo", data=(str(files / "prompts.jsonl"),)), tmp_path / "dpo")
    with pytest.raises(ConfigError, match="something to reward"):
        run_of(settings_of(files, "grpo", reward=()), tmp_path / "none")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"objective": "dpo", "gamma": 2.0}, "gamma is a setting of simpo"),
        ({"objective": "orpo", "reference": "x"}, "reference is a setting of dpo and ipo and kto"),
        ({"objective": "dpo", "reward": ("math",)}, "reward is a setting of grpo"),
        ({"objective": "dpo", "targets": ("head",)}, "would not be trained"),
        ({"objective": "dpo", "beta": 0.0}, "beta must be > 0"),
        ({"objective": "reward", "beta": 0.1}, "has no beta"),
        ({"objective": "reward", "method": "qlora"}, "lora or in full"),
        ({"objective": "grpo", "reward": ("math",), "reward_weights": (1.0, 2.0)}, "1 rewards have 2 weights"),
        ({"objective": "dpo", "label_smoothing": 0.5}, "label_smoothing"),
        ({"objective": "grpo", "group": 1}, "group must be at least 2"),
    ],
)
def test_settings_that_would_not_be_honoured_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        AlignConfig(**settings)


def test_every_objective_has_its_beta_and_a_rate():
    assert set(BETAS) == set(OBJECTIVES)
    for objective in OBJECTIVES:
        rate, _ = AlignConfig(objective=objective).peak_rate(1_300_000_000)
        in_full, _ = AlignConfig(objective=objective, method="full").peak_rate(1_300_000_000)
        assert 0 < in_full < rate < 1e-4


def test_what_was_asked_once_is_held_out_or_trained_on_but_never_both():
    def pair(number):
        prompt = ({"role": "user", "content": f"question {number % 7}"},)
        answer = ({"role": "assistant", "content": f"answer {number}"},)
        return Preference(prompt, answer, (), f"line {number}")

    train, held_out = split_by_prompt([pair(number) for number in range(40)], 0.2)
    assert len(train) + len(held_out) == 40 and held_out
    assert not {each.prompt[0]["content"] for each in train} & {each.prompt[0]["content"] for each in held_out}
    one = [Labelled(({"role": "user", "content": "one"},), (), True, "")]
    with pytest.raises(DataError, match="too few to hold some out"):
        split_by_prompt(one, 0.5)
    assert split_by_prompt(one, 0) == (one, [])


def test_a_reward_that_does_not_exist_is_named_before_a_run_begins(files, tmp_path):
    with pytest.raises(UnknownNameError, match="maths"):
        run_of(settings_of(files, "grpo", reward=("maths",)), tmp_path / "run")
