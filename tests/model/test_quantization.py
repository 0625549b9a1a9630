import json

import pytest
import torch

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import weight_bytes
from mamba_slm.model.matrices import PARTS, matrix_names, matrix_shapes, part_of
from mamba_slm.model.presets import preset
from mamba_slm.model.quantization import MIXED, PLANS, Quantization, parse_keep, plan_named, quantized_bytes
from mamba_slm.model.stack import LanguageModel
from mamba_slm.ops.lowbit.scheme import Scheme, scheme_named

SMALL = ModelConfig(
    pattern="M-*-", vocab_size=64, hidden_size=64, num_heads=4, num_kv_heads=2, feed_forward_size=96, state_size=16,
    ssm_head_dim=16, tie_embeddings=False,
)  # fmt: skip


@pytest.mark.parametrize("config", [SMALL, preset("nano"), preset("1.3B")], ids=lambda config: str(config.hidden_size))
def test_matrices_are_those_of_the_model(config):
    with torch.device("meta"):
        state = LanguageModel(config).state_dict()
    matrices = {name.removesuffix(".weight"): tuple(tensor.shape) for name, tensor in state.items()
                if tensor.ndim == 2 and name.endswith(".weight")}  # fmt: skip
    assert matrix_shapes(config) == matrices
    assert {part_of(name) for name in matrix_names(config)} <= set(PARTS)


def test_one_matrix_counts_more_than_its_part_and_that_more_than_the_rest():
    int8, nf4 = scheme_named("int8"), scheme_named("nf4")
    plan = Quantization(default=scheme_named("int4"), parts={"in_proj": int8, "sublayers.2.mixer.q_proj": nf4})
    assert plan.scheme_of("sublayers.0.mixer.in_proj") == int8
    assert plan.scheme_of("sublayers.2.mixer.q_proj") == nf4
    assert plan.scheme_of("lm_head") == scheme_named("int4")


def test_a_plan_comes_back_from_json():
    plan = MIXED.keeping({"o_proj": None, "q_proj": Scheme(format="int4", symmetric=False, block_size=0)})
    assert Quantization.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    with pytest.raises(ConfigError, match="does not describe a quantization"):
        Quantization.from_json({"default": None})


def test_what_is_said_of_a_tied_head_holds_for_the_embedding():
    plan = Quantization(default=None, parts=parse_keep("head=int8"))
    assert plan.fitted_to(preset("nano"))["embedding"] == scheme_named("int8")
    assert plan.fitted_to(SMALL)["embedding"] is None and plan.fitted_to(SMALL)["lm_head"] is not None


def test_keep_reads_parts_and_formats():
    assert parse_keep(["in_proj=int8, head=bf16", "q_proj=nf4"]) == {
        "in_proj": scheme_named("int8"), "head": None, "q_proj": scheme_named("nf4"),
    }  # fmt: skip
    with pytest.raises(UnknownNameError, match="did you mean 'int8'"):
        parse_keep("in_proj=int88")
    with pytest.raises(ConfigError, match="not PART=FORMAT"):
        parse_keep("in_proj")
    with pytest.raises(UnknownNameError, match="did you mean 'in_proj'"):
        Quantization(default=None, parts=parse_keep("inproj=int8")).for_model(SMALL)
    with pytest.raises(UnknownNameError, match="quantization 'int5'"):
        plan_named("int5")


def test_int4_of_1_3b_takes_less_than_three_tenths_of_bfloat16_and_mixed_less_than_four():
    config = preset("1.3B")
    share = {name: quantized_bytes(config, plan) / weight_bytes(config) for name, plan in PLANS.items()}
    assert share["int4"] <= 0.30 and share["mixed"] <= 0.40
    assert share["nf4"] <= 0.30 and share["int8"] <= 0.54
