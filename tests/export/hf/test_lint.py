"""Every rule names the key, and exactly the runtimes that it loses."""

import pytest
import torch

from mamba_slm.export.hf.lint import lint, verdicts
from mamba_slm.export.hf.write import hf_config
from mamba_slm.model.portability import RUNTIMES
from mamba_slm.model.presets import preset

GOOD = hf_config(preset("60M"), dtype=torch.bfloat16)
ABSENT = "absent"
THREE = ("MLX", "llama.cpp", "transformers.js")
RULES = [
    # key, value, runtimes lost
    ("model_type", "bamba", RUNTIMES),
    ("architectures", ["BambaForCausalLM"], RUNTIMES),
    ("layer_types", ["linear_attention", "full_attention"] * 6, THREE),
    ("layer_types", ABSENT, THREE),
    ("num_local_experts", ABSENT, RUNTIMES),
    ("num_local_experts", 8, RUNTIMES),
    ("time_step_limit", ABSENT, ("MLX",)),
    ("time_step_limit", [0.0, {"__float__": "Infinity"}], ("MLX",)),
    ("time_step_limit", [0.0, float("inf")], ("MLX",)),
    ("time_step_limit", [0.001, 100.0], ("transformers", "vLLM", "SGLang", "llama.cpp")),
    ("rope_theta", ABSENT, ("SGLang", "MLX")),
    ("rope_theta", 10_000.0, RUNTIMES),
    ("position_embedding_type", None, ("MLX",)),
    ("attention_multiplier", ABSENT, ("MLX",)),
    ("embedding_multiplier", ABSENT, ("MLX",)),
    ("shared_intermediate_size", 0, ("vLLM",)),
    ("mamba_conv_bias", False, ("llama.cpp",)),
    ("attention_bias", True, ("llama.cpp",)),
    ("hidden_size", 516, RUNTIMES),
    ("mamba_n_groups", 2, ("MLX",)),
    ("mamba_expand", 4, ("llama.cpp",)),
]


def changed(key, value):
    values = dict(GOOD)
    if value is ABSENT:
        del values[key]
    else:
        values[key] = value
    if key == "mamba_expand":
        values["mamba_n_heads"] *= 2
    return values


def lost(found):
    return tuple(verdict.runtime for verdict in found if not verdict.loads)


def test_the_config_that_is_written_breaks_no_rule():
    assert list(lint(GOOD)) == []
    assert [verdict.runtime for verdict in verdicts(GOOD)] == list(RUNTIMES)
    assert lost(verdicts(GOOD)) == ()
    assert [str(verdict) for verdict in verdicts(GOOD)] == [f"{runtime}: yes" for runtime in RUNTIMES]


@pytest.mark.parametrize(("key", "value", "runtimes"), RULES, ids=lambda value: str(value)[:30])
def test_a_broken_rule_loses_its_runtimes_and_names_the_key(key, value, runtimes):
    found = verdicts(changed(key, value))
    assert lost(found) == tuple(runtime for runtime in RUNTIMES if runtime in runtimes)
    field = {"mamba_n_groups": "num_groups", "mamba_expand": "expand"}.get(key, key)
    for verdict in found:
        if not verdict.loads:
            assert any(reason.startswith(f"{field} = ") for reason in verdict.reasons), verdict


def test_multipliers_and_no_positions_lose_nobody():
    values = GOOD | {"embedding_multiplier": 12.0, "logits_scaling": 8.0, "position_embedding_type": "nope"}
    assert lost(verdicts(values)) == ()


def test_a_head_stored_beside_a_tied_embedding_is_remarked():
    found = verdicts(GOOD, tensor_names=frozenset({"lm_head.weight"}))
    assert lost(found) == ()
    assert {verdict.runtime for verdict in found if verdict.remarks} == {"vLLM", "SGLang"}


def test_a_model_without_mamba_needs_no_limit():
    values = GOOD | {"layer_types": ["attention"] * 12}
    del values["time_step_limit"]
    assert lost(verdicts(values)) == ()


def test_what_only_costs_time_is_a_remark():
    found = {verdict.runtime: verdict for verdict in verdicts(GOOD | {"vocab_size": 32_001})}
    assert found["llama.cpp"].loads
    assert any("vocab_size" in remark for remark in found["llama.cpp"].remarks)
