import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from mamba_slm.core.errors import CheckpointError, ConfigError, UnknownNameError, UsageError
from mamba_slm.model.checkpoint import load_model, save_model
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.init import build_model
from mamba_slm.model.matrices import matrix_names
from mamba_slm.model.packed import PackedModel, nearest, nearest_model
from mamba_slm.model.quantization import PLANS, Quantization, parse_keep, quantized_bytes
from mamba_slm.model.quantized import (
    blocks_of,
    is_quantized,
    load_dequantized,
    load_nearest,
    open_quantized,
    require_float,
    save_quantized,
)
from mamba_slm.ops.lowbit.blocks import QuantizedBlocks, dequantize
from mamba_slm.ops.lowbit.packed import PANEL_ROWS
from mamba_slm.ops.lowbit.scheme import Scheme
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.plan import initial_config
from small_models import varied_model
from tolerances import assert_close, tolerance_of

UNEVEN = Quantization(
    default=Scheme(format="int4", block_size=64),
    parts={"in_proj": PLANS["int8"].default, "o_proj": None, "sublayers.2.mixer.k_proj": None},
)


def quantized(folder, plan, model=None):
    model = model or varied_model()
    folder.mkdir()
    save_quantized(folder, model.config, nearest(model, plan), model.state_dict(), plan)
    return folder


@pytest.mark.parametrize("plan", [*(PLANS[name] for name in ("int8", "int4", "nf4", "fp4", "mixed")), UNEVEN], ids=str)
def test_a_saved_model_computes_with_what_its_codes_stand_for(plan, tmp_path):
    folder = quantized(tmp_path / "model", plan)
    model, expected = load_model(folder), load_dequantized(folder)
    assert isinstance(model, PackedModel) and is_quantized(folder)
    tokens = torch.randint(0, 320, (2, 20))
    with torch.no_grad():
        assert_close(model(tokens), expected(tokens), tolerance_of("model").values)
        assert_close(
            model.loss(tokens[:, :-1], tokens[:, 1:]), expected.loss(tokens[:, :-1], tokens[:, 1:]),
            tolerance_of("loss").values,
        )  # fmt: skip


def test_what_is_no_matrix_stays_float32_to_the_last_bit(tmp_path):
    source = varied_model()
    model = load_model(quantized(tmp_path / "model", PLANS["int4"], source)).state_dict()
    kept = {name: tensor for name, tensor in source.state_dict().items() if name in model}
    assert any(name.endswith("A_log") for name in kept) and any("conv" in name for name in kept)
    assert all(torch.equal(model[name], tensor) and model[name].dtype == torch.float32 for name, tensor in kept.items())


@pytest.mark.parametrize("plan", [*PLANS.values(), UNEVEN], ids=str)
def test_the_file_is_as_large_as_the_arithmetic_says(plan, tmp_path):
    folder, config = quantized(tmp_path / "model", plan), varied_model().config
    tensors = load_file(folder / "model.safetensors")
    constants = (".quant_map", ".nested_quant_map", ".scales.offset")
    counted = [name for name in tensors if not name.endswith(constants) and "quant_state" not in name]
    assert sum(tensors[name].nbytes for name in counted) == quantized_bytes(config, plan)


@pytest.mark.parametrize("name", ["int8", "int4", "nf4", "fp4", "int8-dynamic", "mixed"])
def test_memory_is_that_of_the_file_where_rows_fill_their_panels(name, tmp_path):
    config = ModelConfig(
        pattern="M-*-", vocab_size=320, hidden_size=128, num_heads=2, num_kv_heads=1, feed_forward_size=192,
        state_size=16, ssm_head_dim=16,
    )  # fmt: skip
    assert config.in_proj_size % PANEL_ROWS == 0
    source = build_model(config, seed=0)
    model = load_model(quantized(tmp_path / "model", PLANS[name], source))
    assert isinstance(model, PackedModel) and model.num_bytes == quantized_bytes(config, PLANS[name])


def test_loading_and_rounding_give_the_same_model(tmp_path):
    source = varied_model()
    (tmp_path / "float").mkdir()
    save_model(source, tmp_path / "float")
    tokens = torch.randint(0, 320, (1, 12))
    at_load = load_nearest(tmp_path / "float", UNEVEN, dtype=torch.float32)
    stored = load_model(quantized(tmp_path / "model", UNEVEN, source))
    here = nearest_model(source, UNEVEN, dtype=torch.float32)
    with torch.no_grad():
        before = source(tokens)
        assert_close(stored(tokens), at_load(tokens), 5e-3)  # o_proj was rounded to bfloat16
        assert torch.equal(here(tokens), at_load(tokens)) and torch.equal(source(tokens), before)


def test_a_matrix_comes_back_as_stored_and_names_are_known(tmp_path):
    source = varied_model()
    folder = quantized(tmp_path / "model", UNEVEN, source)
    expected = nearest(source, UNEVEN)["sublayers.0.mixer.in_proj"]
    assert isinstance(expected, QuantizedBlocks)
    assert torch.equal(dequantize(blocks_of(folder, "sublayers.0.mixer.in_proj")), dequantize(expected))
    opened = open_quantized(folder)
    assert list(opened.matrices) == matrix_names(source.config)
    unrounded = opened.matrices["sublayers.2.mixer.o_proj"]
    assert isinstance(unrounded, torch.Tensor) and unrounded.dtype == torch.bfloat16
    with pytest.raises(ConfigError, match="not quantized: it is stored in bfloat16"):
        blocks_of(folder, "sublayers.2.mixer.k_proj")
    with pytest.raises(UnknownNameError, match=r"did you mean 'sublayers\.0\.mixer\.in_proj'"):
        blocks_of(folder, "sublayers.0.mixer.in_prj")


def test_a_matrix_that_became_something_else_is_said_in_the_config(tmp_path):
    source = varied_model()
    matrices = dict(nearest(source, PLANS["int8"])) | {"embedding": source.embedding.weight}
    (tmp_path / "model").mkdir()
    said = save_quantized(tmp_path / "model", source.config, matrices, source.state_dict(), PLANS["int4"])
    assert said.scheme_of("embedding") is None and said.scheme_of("sublayers.0.mixer.in_proj") == PLANS["int8"].default
    assert open_quantized(tmp_path / "model").quantization == said
    load_model(tmp_path / "model")


def test_training_wants_floating_point(tmp_path):
    folder = quantized(tmp_path / "model", PLANS["int8"])
    with pytest.raises(UsageError, match="training needs a model in floating point"):
        initial_config(TrainConfig(data=("text",), initial=str(folder)))
    with pytest.raises(UsageError, match="training needs a model in floating point"):
        require_float(folder, purpose="training")
    with pytest.raises(UsageError, match="rounding weights while loading needs"):
        load_nearest(folder, PLANS["int4"])


def test_damage_is_a_checkpoint_error_that_names_the_tensor(tmp_path):
    folder = quantized(tmp_path / "model", PLANS["int4"])
    tensors = load_file(folder / "model.safetensors")
    scales = tensors.pop("embedding.weight.scales")
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"embedding\.weight\.scales is missing"):
        load_model(folder)
    save_file(tensors | {"embedding.weight.scales": scales[:, :0]}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="the stored matrix embedding does not fit int4"):
        load_model(folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization"]["default"]["format"] = "int5"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="'int5'"):
        load_model(folder)


def test_a_missing_matrix_is_refused_before_anything_is_written(tmp_path):
    source = varied_model()
    with pytest.raises(ConfigError, match=r"needs embedding \(1 tensors"):
        matrices = {name: matrix for name, matrix in nearest(source, PLANS["int8"]).items() if name != "embedding"}
        save_quantized(tmp_path, source.config, matrices, source.state_dict(), PLANS["int8"])
    assert not list(tmp_path.iterdir())


def test_keeping_a_part_in_bfloat16_rounds_nothing_else_of_it(tmp_path):
    source = varied_model()
    plan = PLANS["int8"].keeping(parse_keep("embedding=bf16"))
    model = load_model(quantized(tmp_path / "model", plan, source))
    assert torch.equal(model.embedding.weight, source.embedding.weight.bfloat16().float())
