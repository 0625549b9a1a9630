"""Promises of the types: which tensor is stored how, how large it is, and how near to the model."""

import sys

import numpy as np
import pytest

from export.gguf.small_gguf_models import LITTLE, small_config
from mamba_slm.cli.export_gguf import TYPES
from mamba_slm.core.errors import MissingDependencyError, UnknownNameError
from mamba_slm.export.gguf.layout import layout
from mamba_slm.export.gguf.types import (
    BLOCK_BYTES,
    BLOCKS,
    FILE_TYPES,
    encode,
    excess_error,
    fitting,
    gguf_package,
    plan,
    tensors_with_more_bits,
)


def types_of(file_type, **changed):
    """Name of the tensor -> its type."""
    return {each.tensor.name: each.type for each in plan(layout(small_config(**changed)), file_type)}


@pytest.mark.parametrize("file_type", FILE_TYPES)
def test_vectors_norms_and_convolutions_are_always_float32(file_type):
    for name, kind in types_of(file_type).items():
        is_matrix = any(part in name for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up"))
        is_matrix |= any(part in name for part in ("ffn_down", "ssm_in", "ssm_out", "token_embd"))
        if not is_matrix:
            assert kind == "F32", name
        elif file_type != "Q4_K_M":
            assert kind == file_type, name


def test_rows_that_do_not_fill_a_block_fall_back_as_llama_cpp_does():
    assert [fitting("Q4_K", columns) for columns in (512, 96, 24)] == ["Q4_K", "Q5_0", "F16"]
    assert [fitting("Q6_K", columns) for columns in (256, 64, 40)] == ["Q6_K", "Q8_0", "F16"]
    assert fitting("F32", 7) == "F32"
    planned = plan(layout(small_config(**LITTLE)), "Q4_K")
    assert {each.type for each in planned if each.tensor.is_matrix} == {"Q5_0"}
    assert all(each.wanted == "Q4_K" for each in planned if each.tensor.is_matrix)


def test_feed_forwards_of_zeros_take_as_little_as_possible_whatever_the_type():
    types = {name: kind for name, kind in types_of("F32", pattern="MM*-M*-").items() if "blk.0.ffn" in name}
    assert types.pop("blk.0.ffn_norm.weight") == "F32"
    assert set(types.values()) == {"Q4_0"}


def test_the_mixture_gives_more_bits_to_the_head_and_to_every_third_layer_and_the_ends():
    pattern = "M-*-" * 8
    tensors = list(layout(small_config(pattern=pattern)))
    chosen = tensors_with_more_bits(tensors)
    assert "token_embd.weight" in chosen  # the head, where it is tied
    down = sorted(int(name.split(".")[1]) for name in chosen if "ffn_down" in name)
    assert down == [0, 1, 4, 7, 10, 13, 14, 15]
    values = sorted(int(name.split(".")[1]) for name in chosen if "attn_v" in name)
    assert values == [1, 7, 13, 15]  # of the attention layers alone: the first, the fourth, the last two
    untied = tensors_with_more_bits(list(layout(small_config("untied"))))
    assert "output.weight" in untied
    assert "token_embd.weight" not in untied
    types = types_of("Q4_K_M", pattern=pattern)
    assert {types[name] for name in chosen} == {"Q6_K"}
    assert types["blk.0.ssm_in.weight"] == "Q4_K"


def test_an_unknown_type_is_named_with_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown GGUF type 'Q4_KM'; did you mean 'Q4_K_M'"):
        plan([], "Q4_KM")


def test_the_command_line_offers_exactly_the_types_there_are():
    assert set(TYPES) == set(FILE_TYPES)


@pytest.mark.parametrize("kind", BLOCKS)
def test_the_size_of_a_tensor_is_known_before_it_is_written(kind):
    values = np.random.default_rng(0).standard_normal((6, 512)).astype(np.float32)
    assert encode(values, kind).nbytes == 6 * 512 // BLOCKS[kind] * BLOCK_BYTES[kind]
    config = small_config()
    assert sum(each.bytes for each in plan(layout(config), "F32")) == 4 * sum(
        int(np.prod(each.shape)) for each in layout(config)
    )


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q5_0", "Q4_0"])
def test_what_gguf_quantizes_stays_within_the_error_of_its_type(kind):
    gguf = gguf_package("this test")
    rng = np.random.default_rng(0)
    for scale in (1e-4, 1.0, 100.0):
        values = (rng.standard_t(2, (20, 256)) * scale).astype(np.float32)
        stored = gguf.quants.dequantize(encode(values, kind), gguf.GGMLQuantizationType[kind])
        assert 0.1 < excess_error(values, stored, kind) <= 1
    shifted = np.roll(stored, 1, axis=-1)
    assert excess_error(values, shifted, kind) > 5


def test_the_error_is_infinite_for_what_is_no_number_and_for_any_change_of_float32():
    values = np.ones((1, 32), np.float32)
    assert excess_error(values, values, "F32") == 0
    assert excess_error(values, values * np.float32(1 + 1e-6), "F32") == np.inf
    assert excess_error(values, np.full_like(values, np.nan), "Q8_0") == np.inf


def test_without_the_package_gguf_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingDependencyError, match="writing GGUF files needs gguf") as caught:
        gguf_package("writing GGUF files")
    assert caught.value.hint == "pip install 'mamba-slm[gguf]'"
