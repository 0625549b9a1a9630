"""A check-up passes what is right, and names what is not."""

import dataclasses
import math

import pytest
import torch

from mamba_slm.model.config import ModelConfig
from mamba_slm.model.init import build_model
from mamba_slm.model.presets import preset
from mamba_slm.training.checkup.examine import choose_size, examine_training, first_rate
from mamba_slm.training.checkup.initialisation import check_initialisation, moments_of_log
from mamba_slm.training.checkup.settings import check_dtypes, check_kernels, check_sharding, judge_groups
from mamba_slm.training.checkup.step import (
    expected_loss,
    judge_gradients,
    judge_loss,
    judge_memory,
    judge_update,
    take_step,
)
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.distributed.world import alone
from mamba_slm.training.engines.engine import Engine
from mamba_slm.training.optim import parameter_groups
from mamba_slm.training.precision import Precision
from training.small_run import SETTINGS, TINY

MODELS = [TINY, preset("nano"), dataclasses.replace(TINY, tie_embeddings=False, position="learned", pattern="M*-M")]


@pytest.mark.parametrize("config", MODELS, ids=["tiny run", "nano", "untied, learned positions"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_fresh_weights_follow_their_rules(config: ModelConfig, seed):
    finding = check_initialisation(build_model(config, seed=seed))
    assert finding.status == "ok", finding.text


BREAKS = {
    "embedding.weight": lambda weight: weight.mul_(1.2),
    "sublayers.0.mixer.A_log": lambda weight: weight.zero_(),
    "sublayers.0.mixer.dt_bias": lambda weight: weight.add_(9.0),
    "sublayers.0.mixer.D": lambda weight: weight.zero_(),
    "sublayers.0.mixer.out_proj.weight": lambda weight: weight.mul_(2.0),  # as if √4 had been forgotten
    "sublayers.1.mixer.gate_up_proj.weight": lambda weight: weight.mul_(0.8),
    "sublayers.2.mixer.q_proj.weight": lambda weight: weight.fill_(0.05),
    "sublayers.0.mixer.conv_bias": lambda weight: weight.add_(1.0),
    "sublayers.3.norm.weight": lambda weight: weight.mul_(0.5),
    "final_norm.weight": lambda weight: weight.fill_(math.nan),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_tensor_that_does_not_follow_its_rule_is_named(name):
    model = build_model(TINY)
    with torch.no_grad():
        BREAKS[name](model.get_parameter(name))
    finding = check_initialisation(model)
    assert finding.status == "fail"
    assert finding.text.startswith("1 of ") and name in finding.text


def test_moments_of_a_logarithm_are_those_of_its_values():
    values = torch.empty(1_000_000, dtype=torch.float64).uniform_(1, 16).log()
    rule = moments_of_log(1, 16)
    assert rule.mean == pytest.approx(values.mean().item(), abs=0.01)
    assert rule.std == pytest.approx(values.std().item(), abs=0.01)


def test_groups_are_right_as_they_are_made_and_each_mistake_is_named():
    model = build_model(TINY)
    named = list(model.named_parameters())
    groups = parameter_groups(named, weight_decay=0.1)
    finding = judge_groups(groups, named)
    assert finding.status == "ok"
    assert sum(finding.measured.values()) == sum(parameter.numel() for _, parameter in named)
    swapped = [{**group, "weight_decay": 0.1 - group["weight_decay"]} for group in groups]
    assert "A_log decays, and must not" in judge_groups(swapped, named).text
    assert "is in no group" in judge_groups(groups[:1], named).text
    assert "is in 2 groups" in judge_groups([*groups, groups[0]], named).text


@pytest.fixture
def step_of(batch):
    """`step_of(model)`: one step of a model, in a precision."""

    def take(model, precision="fp32"):
        engine = Engine(model, SETTINGS, Precision(precision, "cpu"), "cpu", alone())
        return take_step(engine, batch, 1e-3)

    return take


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_of_a_fresh_model_is_right(step_of, precision):
    model = build_model(TINY)
    step = step_of(model, precision)
    findings = [
        judge_loss(step, TINY, batch="the batch"),
        judge_gradients(step, model),
        judge_update(step, model, 1e-3),
        check_dtypes(model, step.dtypes, torch.bfloat16 if precision == "bf16" else torch.float32),
        judge_memory(step, planned=1e9, available=None),
    ]
    assert [finding.status for finding in findings] == ["ok"] * 5, findings
    assert step.loss == pytest.approx(expected_loss(TINY), abs=0.2)
    assert check_dtypes(model, step.dtypes, torch.float16).status == "fail"
    assert judge_memory(step, planned=1e9, available=step.peak_bytes).status == "warn"


def test_parameters_without_gradient_or_update_are_named(step_of):
    model = build_model(TINY)
    with torch.no_grad():
        model.sublayers[2].mixer.o_proj.weight.zero_()  # nothing goes back through it
    step = step_of(model)
    finding = judge_gradients(step, model)
    assert finding.status == "fail"
    assert "sublayers.2.mixer.q_proj.weight (all zeros)" in step.without_gradient
    frozen = build_model(TINY)
    frozen.sublayers[0].mixer.D.requires_grad_(False)
    step = step_of(frozen)
    assert step.unchanged == ["sublayers.0.mixer.D"]
    assert judge_update(step, frozen, 1e-3).status == "warn"


def test_a_loss_far_from_guessing_is_refused(step_of):
    model = build_model(TINY)
    with torch.no_grad():
        model.embedding.weight.mul_(40)
    finding = judge_loss(step_of(model), TINY, batch="the batch")
    assert finding.status == "fail"
    assert "ln 64" in finding.text


def test_rows_and_groups_that_cannot_be_dealt_are_refused_with_numbers_that_can():
    config = TrainConfig(batch_tokens=4096, context_tokens=512)
    assert check_sharding(config, 1).status == check_sharding(config, 4).status == "ok"
    rows = check_sharding(config, 3)
    assert rows.status == "fail" and "1, 2, 4, 8" in rows.hint
    groups = check_sharding(dataclasses.replace(config, engine="fsdp", shard_processes=3), 4)
    assert groups.status == "fail" and "1, 2, 4" in groups.hint


def test_no_kernels_where_some_were_hoped_for_is_worth_a_warning():
    assert check_kernels(TrainConfig(device="cpu", kernels="torch"), "kernels: PyTorch's (asked for)").status == "ok"
    assert check_kernels(TrainConfig(device="cpu"), "kernels: none").status == "warn"


def test_a_model_too_large_for_here_is_looked_at_with_one_sublayer_of_each_kind():
    config = TrainConfig(model="2.7B", device="cpu", precision="fp32", context_tokens=2048, batch_tokens=2048)
    thin, finding = choose_size(config, preset("2.7B"))
    assert finding.status == "warn"
    if thin is not None:
        assert sorted(thin.pattern) == sorted("M-*") and thin.hidden_size == preset("2.7B").hidden_size
    small, finding = choose_size(dataclasses.replace(config, model="nano", context_tokens=256), preset("nano"))
    assert finding.status == "ok" and small == preset("nano")


def test_the_rate_of_the_first_step_is_that_of_the_schedule():
    config = TrainConfig(max_steps=100, warmup_share=0.1, learning_rate=1.0)
    assert first_rate(config) == pytest.approx(0.1)
    assert 0 < first_rate(TrainConfig()) < TrainConfig().learning_rate


def test_a_run_is_examined_with_its_own_data_and_leaves_nothing_behind(tmp_path, monkeypatch):
    text = tmp_path / "book.txt"
    text.write_text("".join(f"Line {i} says what line {i * 7 % 100} said.\n" for i in range(400)))
    before = sorted(tmp_path.rglob("*"))
    config = TrainConfig(
        data=(str(text),), pattern="M-*-", vocab_size=300, context_tokens=64, batch_tokens=256, kernels="torch",
        device="cpu",
    )  # fmt: skip
    findings = examine_training(config, say=lambda text: None)
    assert {finding.status for finding in findings} == {"ok"}, findings
    assert any("the first rows of the data" in finding.text for finding in findings)
    assert [finding.name for finding in findings] == [
        "model", "sharding", "kernels", "weights", "groups", "dtypes", "first loss", "gradients", "update", "memory",
    ]  # fmt: skip
    assert sorted(tmp_path.rglob("*")) == before
