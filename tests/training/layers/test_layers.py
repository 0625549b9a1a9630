"""What a look into the layers sees, and that a run does not notice it."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.model.init import build_model
from mamba_slm.runs.metrics import read_metrics
from mamba_slm.training.distributed.world import alone
from mamba_slm.training.hooks import Hook
from mamba_slm.training.layers.memory_watch import STEP_SIZES, MemoryWatch, counts_of
from mamba_slm.training.layers.report import LogHistogram, all_layers
from mamba_slm.training.layers.updates import MOST_SAMPLES, sample, stride_of
from mamba_slm.training.layers.watch import LayerWatch
from training.small_run import TINY


class Looks(Hook):
    def __init__(self):
        self.reports = []

    def on_layers(self, view, report):
        self.reports.append(report)


def rows(trainer, kind):
    return read_metrics(trainer.run.metrics_file, kind=kind)


def test_a_run_is_looked_into_at_its_first_and_every_nth_step_and_its_losses_are_the_same(make_trainer):
    hook = Looks()
    watched = make_trainer("watched", layers_every_steps=5, hooks=[hook])
    watched.train()
    plain = make_trainer("plain", layers_every_steps=0)
    plain.train()
    found = rows(watched, "layers")
    assert [row["step"] for row in found] == [1, 5, 10] == [report.step for report in hook.reports]
    assert rows(plain, "layers") == []
    assert [row["loss"] for row in rows(watched, "train")] == [row["loss"] for row in rows(plain, "train")]
    row = found[-1]
    assert list(row["update_ratios"]) == ["embedding", "0 M", "1 -", "2 *", "3 -", "final_norm"]
    assert all(0 < ratio < 1 for ratio in row["update_ratios"].values())
    tokens, heads = 128, watched.model.config.num_ssm_heads
    for name in ("step_sizes", "decay_lives"):
        assert {layer: sum(counts) for layer, counts in row[name]["counts"].items()} == {"0 M": tokens * heads}


def test_a_resumed_run_looks_again_at_what_came_after_its_checkpoint_and_at_nothing_twice(make_trainer):
    make_trainer("cut", layers_every_steps=3, max_steps=6, save_every_steps=4).train()
    trainer = make_trainer("cut", layers_every_steps=3, max_steps=9)
    trainer.train(resume=True)
    assert [row["step"] for row in rows(trainer, "layers")] == [1, 3, 6, 9]


def test_the_update_ratio_is_the_norm_of_the_change_over_the_norm_of_the_weights():
    model = build_model(TINY)

    def shares():
        return list(model.named_parameters())

    watch = LayerWatch(model, shares, every_steps=1, world=alone())
    with watch.looking(1, tokens=0), torch.no_grad():
        model.embedding.weight.mul_(1.25)
        model.sublayers[2].mixer.o_proj.weight.add_(0.5)
        watch.memory.step_sizes = watch.memory.decay_lives = {"0 M": torch.zeros(24)}
    ratios = watch.report.update_ratios
    attention = [parameter for name, parameter in shares() if name.startswith("sublayers.2.")]
    changed = model.sublayers[2].mixer.o_proj.weight
    others = sum(p.detach().square().sum().item() for p in attention if p is not changed)
    before = math.sqrt(others + (changed.detach() - 0.5).square().sum().item())
    assert ratios["embedding"] == pytest.approx(0.25, rel=1e-5)
    assert ratios["2 *"] == pytest.approx(0.5 * math.sqrt(changed.numel()) / before, rel=1e-4)
    assert ratios["0 M"] == 0


@given(st.integers(1, 5000), st.integers(1, 700))
def test_a_sample_is_small_and_takes_from_every_column(rows, columns):
    stride = stride_of(torch.Size((rows, columns)))
    taken = len(range(0, rows * columns, stride))
    assert taken <= MOST_SAMPLES
    assert stride == 1 or taken > MOST_SAMPLES / 20
    assert math.gcd(stride, columns) == 1


def test_a_large_parameter_is_judged_by_its_sample():
    before = torch.randn(1000, 1000)
    change = 0.01 * torch.randn(1000, 1000)
    exact = change.norm() / before.norm()
    estimate = (sample(before + change) - sample(before)).norm() / sample(before).norm()
    assert float(estimate) == pytest.approx(float(exact), rel=0.02)


def test_step_sizes_and_lives_are_those_of_the_scan():
    model = build_model(TINY)
    mixer = model.sublayers[0].mixer
    with torch.no_grad():  # every token and head: dt = softplus(dt_bias) = 0.02, A = -5, so a life of 10 tokens
        mixer.in_proj.weight.zero_()
        mixer.dt_bias.fill_(math.log(math.expm1(0.02)))
        mixer.A_log.fill_(math.log(5.0))
    watch = MemoryWatch(model)
    with watch.counting():
        model.hidden_states(torch.zeros(2, 7, dtype=torch.long))
    model.hidden_states(torch.zeros(2, 7, dtype=torch.long))  # nobody counts any more
    heads = TINY.num_ssm_heads
    size = LogHistogram(low=-5, per_decade=4, counts=watch.step_sizes["0 M"].int().tolist())
    life = LogHistogram(low=-2, per_decade=4, counts=watch.decay_lives["0 M"].int().tolist())
    assert sum(size.counts) == sum(life.counts) == 14 * heads
    assert size.quantile(0.0) <= 0.02 <= size.quantile(1.0)
    assert life.quantile(0.0) <= 10.01 and life.quantile(1.0) >= 9.99


def test_values_outside_the_bins_are_counted_at_their_ends():
    counts = counts_of(torch.tensor([0.0, 1e-9, 1.0, 1e9]), STEP_SIZES).tolist()
    assert sum(counts) == 4 and counts[0] == 2 and counts[-1] == 1


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.floats(0, 1))
def test_quantiles_lie_within_the_bins_that_have_counts_and_rise(counts, share):
    histogram = LogHistogram(low=-2, per_decade=4, counts=counts)
    edges = histogram.edges()
    assert len(edges) == len(counts) + 1
    value = histogram.quantile(share)
    if not sum(counts):
        assert value is None
        return
    filled = [i for i, count in enumerate(counts) if count]
    assert edges[filled[0]] * 0.999 <= value <= edges[filled[-1] + 1] * 1.001
    assert value <= histogram.quantile(1.0) * 1.001
    assert all_layers({"a": histogram, "b": histogram}).counts == [2 * count for count in counts]
    assert all_layers({}) is None
