"""Speed is measured as often as asked, on prompts that fit, with percentiles in their order."""

import json

import pytest

from mamba_slm.cli.main import main
from mamba_slm.core.errors import ConfigError
from mamba_slm.evaluation.speed import SpeedSettings, measure_speed, percentiles
from mamba_slm.generation.runtime import TorchRuntime
from small_models import save_small_model, varied_model


class Counted(TorchRuntime):
    """Counts what it is asked to read."""

    def __init__(self, model):
        super().__init__(model)
        self.read = []

    def next_logits(self, tokens, padding_mask, state):
        self.read.append(tuple(tokens.shape))
        return super().next_logits(tokens, padding_mask, state)


def test_every_length_is_read_in_every_batch_as_often_as_asked_and_once_before():
    runtime = Counted(varied_model())
    settings = SpeedSettings(prompt_tokens=(5, 9), batches=(1, 3), new_tokens=4, num_runs=2)
    found = list(measure_speed(runtime, settings))
    assert [(one.batch, one.prompt_tokens) for one in found] == [(1, 5), (1, 9), (3, 5), (3, 9)]
    for batch in (1, 3):
        assert [runtime.read.count((batch, length)) for length in (5, 9)] == [3, 3]
        assert runtime.read.count((batch, 1)) == 2 * 3 * 4
    for one in found:
        for times in (one.prefill_seconds, one.step_seconds):
            assert 0 < times["p50"] <= times["p90"] <= times["p99"]
    assert found[2].state_bytes == 3 * found[0].state_bytes


def test_percentiles_lie_within_what_was_seen():
    assert percentiles([float(n) for n in range(101)]) == {"p50": 50.0, "p90": 90.0, "p99": 99.0}


def test_prompts_beyond_the_context_and_too_few_runs_are_refused():
    runtime = TorchRuntime(varied_model())
    with pytest.raises(ConfigError, match="do not fit"):
        list(measure_speed(runtime, SpeedSettings(prompt_tokens=(10**6,))))
    with pytest.raises(ConfigError, match="at least 2 runs"):
        SpeedSettings(num_runs=1)


def test_the_command_prints_a_table_and_keeps_the_numbers(tmp_path, capsys):
    model = save_small_model(tmp_path / "m", max_context_tokens=64)
    words = ["eval", str(model), "--task", "benchmark", "--num-runs", "2", "--lengths", "8,16", "--batches", "1,2"]
    assert main([*words, "--new-tokens", "2", "--runtime", "torch", "--out", str(tmp_path / "out")]) == 0
    assert "decode tok/s" in capsys.readouterr().out
    kept = json.loads((tmp_path / "out" / "speed.json").read_text())
    assert [(one["batch"], one["prompt_tokens"]) for one in kept["speeds"]] == [(1, 8), (1, 16), (2, 8), (2, 16)]
