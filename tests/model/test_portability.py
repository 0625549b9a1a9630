"""A config says which runtimes it loses."""

from dataclasses import replace

import pytest

from mamba_slm.model.pattern import LAYOUTS
from mamba_slm.model.portability import RUNTIMES, lost_runtimes, portability_issues
from mamba_slm.model.presets import SIZES, preset

PORTABLE = preset("60M")

RULES = [
    # setting, value, field named, effect, runtimes
    ({"position": "alibi"}, "position", "lost", RUNTIMES),
    ({"position": "learned"}, "position", "lost", RUNTIMES),
    ({"attention_window": 1024}, "attention_window", "lost", RUNTIMES),
    ({"rope_scaling": "yarn", "rope_scaling_factor": 4.0}, "rope_scaling", "lost", ("SGLang", "MLX")),
    ({"rope_scaling": "llama3", "rope_scaling_factor": 4.0}, "rope_scaling", "lost", ("SGLang", "MLX", "llama.cpp")),
    ({"rope_scaling": "linear", "rope_scaling_factor": 4.0}, "rope_scaling", "lost", ("SGLang", "MLX")),
    ({"pattern": "M--*-"}, "pattern", "lost", RUNTIMES),
    ({"pattern": "-M-*-"}, "pattern", "lost", RUNTIMES),
    ({"pattern": "MM*-"}, "pattern", "larger", RUNTIMES),
    ({"pattern": "M-M-"}, "num_attention", "lost", ("transformers.js",)),
    ({"expand": 4}, "expand", "lost", ("llama.cpp",)),
    ({"num_groups": 2}, "num_groups", "lost", ("MLX",)),
    ({"num_groups": 2}, "num_groups", "slower", ("vLLM",)),
    ({"conv_kernel": 5}, "conv_kernel", "lost", ("vLLM", "SGLang")),
    ({"num_heads": 4, "num_kv_heads": 2, "hidden_size": 320}, "head_dim", "less exact", ("llama.cpp",)),
    ({"state_size": 64}, "state_size", "slower", ("llama.cpp",)),
    ({"ssm_head_dim": 8}, "ssm_head_dim", "slower", ("llama.cpp",)),
    ({"hidden_size": 544, "num_heads": 17, "num_kv_heads": 1}, "conv_size", "slower", ("llama.cpp",)),
    ({"vocab_size": 32_001}, "vocab_size", "larger", ("llama.cpp",)),
    ({"hidden_size": 384, "num_heads": 6}, "hidden_size", "larger", ("llama.cpp",)),
    ({"hidden_size": 448, "num_heads": 7, "num_kv_heads": 1}, "inner_size", "larger", ("llama.cpp",)),
    ({"feed_forward_size": 1000}, "feed_forward_size", "larger", ("llama.cpp",)),
]


@pytest.mark.parametrize(("settings", "field", "effect", "runtimes"), RULES)
def test_a_broken_rule_names_the_setting_the_effect_and_the_runtimes(settings, field, effect, runtimes):
    config = replace(PORTABLE, **settings)
    found = [issue for issue in portability_issues(config) if (issue.field, issue.effect) == (field, effect)]
    assert len(found) == 1
    assert found[0].runtimes == runtimes
    assert found[0].value == getattr(config, field)
    assert str(found[0]).startswith(f"{field} = {getattr(config, field)}: {effect} in {runtimes[0]}")
    if effect == "lost":
        assert set(runtimes) <= set(lost_runtimes(config))


@pytest.mark.parametrize("name", sorted(set(SIZES) - {"nano", "tiny"}))
def test_the_portable_presets_break_no_rule(name):
    assert portability_issues(preset(name, layout="portable")) == []


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", SIZES)
def test_no_preset_loses_a_runtime(name, layout):
    assert lost_runtimes(preset(name, layout=layout)) == ()


@pytest.mark.parametrize(
    "settings",
    [
        {"position": "nope"},
        {"rope_scaling": "ntk", "rope_scaling_factor": 2.0},
        {"attention_window": PORTABLE.max_context_tokens},
        {"tie_embeddings": False},
        {"chunk_size": 64},
        {"state_size": 256},
    ],
)
def test_what_runtimes_know_is_no_issue(settings):
    assert portability_issues(replace(PORTABLE, **settings)) == []


def test_sizes_of_sublayers_that_are_not_there_do_not_matter():
    fields = {issue.field for issue in portability_issues(replace(PORTABLE, pattern="*-", state_size=7, expand=4))}
    assert fields == set()
    fields = {issue.field for issue in portability_issues(replace(PORTABLE, pattern="M-", num_heads=16))}
    assert fields == {"num_attention"}


def test_lost_runtimes_come_first():
    config = replace(PORTABLE, vocab_size=32_001, state_size=64, expand=4, num_groups=2)
    effects = [issue.effect == "lost" for issue in portability_issues(config)]
    assert effects == sorted(effects, reverse=True)
    assert lost_runtimes(config) == ("MLX", "llama.cpp")
