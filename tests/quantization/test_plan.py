"""Promises of planning: settings mean what they say, choices are said with their reason, sizes are exact."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError, UnknownNameError, UsageError
from mamba_slm.model.presets import preset
from mamba_slm.model.quantization import Quantization, plan_named
from mamba_slm.ops.lowbit.scheme import NAMED_SCHEMES, Scheme
from mamba_slm.quantization.config import QuantizeConfig
from mamba_slm.quantization.plan import plan_for, planned_size, unfitting

NANO = preset("nano")


def plan_and_words(trained_for=None, **settings):
    said = []
    return plan_for(QuantizeConfig(**settings), NANO, trained_for=trained_for, say=said.append), said


def test_blocks_zero_points_and_scales_are_of_the_format_of_to():
    plan, _ = plan_and_words(to="int4", block_size=64, asymmetric=True, double=True, keep=("in_proj=int8",))
    assert plan.default == Scheme(format="int4", block_size=64, symmetric=False, double=True)
    assert plan.scheme_of("sublayers.0.mixer.in_proj") == NAMED_SCHEMES["int8"]


def test_a_format_without_zero_points_says_so():
    with pytest.raises(ConfigError, match="no zero points"):
        plan_and_words(to="nf4", asymmetric=True)


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'int8'"):
        QuantizeConfig(to="int88")
    with pytest.raises(UnknownNameError, match="did you mean 'in_proj'"):
        plan_and_words(to="int4", keep=("in_prj=int8",))


@pytest.mark.parametrize(
    "settings", [{"block_size": 48}, {"text_tokens": 1}, {"max_drop": -0.1}, {"damp": 0}, {"sensitivity_tokens": 0}]
)
def test_settings_that_cannot_work_are_refused_by_name(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        QuantizeConfig(to="int4", **settings)


def test_without_a_format_the_one_that_the_model_was_trained_for_is_taken():
    qat = Quantization(default=NAMED_SCHEMES["int4"], method="qat")
    plan, said = plan_and_words(trained_for=qat)
    assert plan == qat and "trained for it" in said[0]
    with pytest.raises(UsageError, match="which format"):
        plan_and_words()
    with pytest.raises(UsageError, match="would undo that"):
        plan_and_words(trained_for=qat, block_size=64)
    same, said = plan_and_words(trained_for=qat, to="int4")
    assert same.method == "qat" and "trained for these" in said[0]
    assert plan_and_words(trained_for=qat, to="int8")[0].method == "nearest"


def test_the_method_is_chosen_by_what_is_there_and_said(tmp_path):
    plan, said = plan_and_words(to="int4", calibration=tmp_path)
    assert plan.method == "gptq" and "automatic" in said[0]
    plan, said = plan_and_words(to="int4")
    assert plan.method == "nearest" and "--calibration" in said[0]
    assert plan_and_words(to="int8", calibration=tmp_path)[0].method == "nearest"
    assert plan_and_words(to="int8") == (plan_named("int8"), [])
    assert plan_and_words(to="int8", method="hqq")[0].method == "hqq"


@given(st.sampled_from(["int8", "int4", "nf4", "fp4", "mixed"]), st.sampled_from([None, 8, 32, 256, 0]))
def test_the_parts_of_the_size_add_up(to, block_size):
    plan, _ = plan_and_words(to=to, block_size=block_size)
    size = planned_size(plan, NANO)
    others = size.num_bytes - sum(part.num_bytes for part in size.parts)
    weights = sum(part.num_weights for part in size.parts)
    assert others == 4 * (size.bfloat16_bytes // 2 - weights) > 0
    assert 4 < size.bits_per_weight < 10.1


def test_the_ratios_that_were_asked_for_hold_at_the_size_that_they_were_asked_for():
    assert planned_size(plan_named("int4"), preset("1.3B")).ratio <= 0.30
    assert planned_size(plan_named("mixed"), preset("1.3B")).ratio <= 0.40


def test_parts_that_cannot_be_cut_as_asked_are_named_with_the_reason():
    config = preset("nano").__class__(**{**vars(NANO), "feed_forward_size": 100})
    found = unfitting(plan_named("int4"), config)
    assert found == {"down_proj": "stays in bfloat16: no block of 8 or more divides rows of 100"}
    assert all(
        "has blocks of" in why
        for why in unfitting(plan_for(QuantizeConfig(to="int4", block_size=256), NANO), NANO).values()
    )
