"""Promises of quantized models in GGUF: the same numbers, in the type that holds them, and no rounding unasked."""

import numpy as np
import pytest
import torch

from export.gguf.small_gguf_models import LITTLE, small_source
from mamba_slm.core.errors import CheckFailedError, ConfigError
from mamba_slm.export.gguf import stored
from mamba_slm.export.gguf.export import export_gguf
from mamba_slm.export.gguf.runner import llama_cpp_is_installed
from mamba_slm.export.gguf.stored import AS_STORED, encode_blocks, holds_numbers, is_exact, nearest_type
from mamba_slm.export.gguf.types import BLOCK_BYTES, gguf_package
from mamba_slm.ops.lowbit.blocks import QuantizedBlocks, dequantize, quantize_nearest
from mamba_slm.ops.lowbit.scheme import Scheme, scheme_named
from quantized_models import quantized_source

EXACT = {"int8": {"Q8_0"}, "int4": {"Q4_0"}, "mixed": {"Q8_0", "Q4_0"}, "int8-dynamic": {"Q8_0"}}


def exported(folder, name, *, file_type=AS_STORED, in_llama_cpp=False, **changed):
    """A small quantized model as a file."""
    source = quantized_source(small_source(**(LITTLE | changed)), name)
    return export_gguf(source, folder / "x.gguf", file_type=file_type, in_llama_cpp=in_llama_cpp)


def read(blocks, type):
    """What llama.cpp's own package reads out of the bytes."""
    gguf = gguf_package("this test")
    return gguf.quants.dequantize(encode_blocks(blocks, type), gguf.GGMLQuantizationType[type])


@pytest.mark.parametrize("block_size", [0, 256, 64, 32])
@pytest.mark.parametrize(("format", "type"), [("int8", "Q8_0"), ("int4", "Q4_0"), ("int4", "Q8_0")])
def test_symmetric_whole_numbers_keep_every_value_to_the_last_bit(format, type, block_size):
    weight = torch.randn(6, 256, generator=torch.Generator().manual_seed(0))
    blocks = quantize_nearest(weight, Scheme(format=format, block_size=block_size))
    assert is_exact(blocks, type)
    assert encode_blocks(blocks, type).shape == (6, 256 // 32 * BLOCK_BYTES[type])
    np.testing.assert_array_equal(read(blocks, type), dequantize(blocks).numpy())


def test_every_code_of_eight_bits_is_kept():
    codes = torch.arange(256, dtype=torch.uint8)[None]
    blocks = QuantizedBlocks(scheme=Scheme(format="int8"), codes=codes, scales=torch.full((1, 8), 0.5).half())
    np.testing.assert_array_equal(read(blocks, "Q8_0"), (np.arange(256)[None] - 128) * 0.5)


def test_zero_points_become_minima_that_float16_rounds_at_most():
    weight = torch.rand(6, 256, generator=torch.Generator().manual_seed(0)) - 0.3
    blocks = quantize_nearest(weight, Scheme(format="int4", symmetric=False))
    assert nearest_type(blocks.scheme) == "Q4_1"
    error = np.abs(read(blocks, "Q4_1") - dequantize(blocks).numpy())
    assert 0 < error.max() <= 15 * float(blocks.scales.max()) * 2**-11
    assert is_exact(blocks, "Q8_0")  # which has no minima, but room for code - zero
    np.testing.assert_array_equal(read(blocks, "Q8_0"), dequantize(blocks).numpy())


def test_no_type_holds_tables_or_zero_points_of_eight_bits():
    weight = torch.randn(2, 64)
    for scheme in (scheme_named("nf4"), scheme_named("fp4"), Scheme(format="int8", symmetric=False)):
        assert nearest_type(scheme) is None
        blocks = quantize_nearest(weight, scheme)
        assert not any(holds_numbers(blocks, type) for type in ("Q8_0", "Q4_0", "F32") if scheme.is_table)
    assert not holds_numbers(quantize_nearest(weight, scheme_named("int8")), "Q4_0")


@pytest.mark.parametrize("name", EXACT)
def test_a_quantized_model_is_written_as_it_is(tmp_path, name):
    found = exported(tmp_path, name)
    assert found.file_type == AS_STORED
    assert set(found.tensors_by_type) == {"F32", *EXACT[name]}
    assert found.rounded_again == {}
    assert found.read_back.probes.max_logit_error <= 1e-5
    assert found.read_back.probes.argmax_agreement == 1


@pytest.mark.parametrize("name", ["int4 with zero points", "int4, scales in 8 bits"])
def test_what_float16_rounds_is_said_and_small(tmp_path, name):
    found = exported(tmp_path, name)
    assert 0 < max(found.rounded_again.values()) < 1e-3
    assert 0 < found.read_back.probes.max_logit_error < 0.05
    assert found.read_back.probes.mean_kl < 1e-5


@pytest.mark.parametrize("name", ["nf4", "fp4", "int8 with zero points"])
def test_numbers_that_no_type_holds_are_refused_with_a_way_out(tmp_path, name):
    with pytest.raises(ConfigError, match=r"no type of GGUF holds the numbers of embedding\.weight") as caught:
        exported(tmp_path, name)
    assert "--type Q8_0 rounds them again" in str(caught.value.hint)
    assert not list(tmp_path.iterdir())


def test_another_type_rounds_again_and_says_how_far(tmp_path):
    found = exported(tmp_path, "nf4", file_type="Q8_0")
    assert len(found.rounded_again) > 10
    assert 0 < max(found.rounded_again.values()) < 0.01
    assert 0 < found.read_back.probes.mean_kl < 1e-2
    assert exported(tmp_path / "wider", "int4", file_type="Q8_0").rounded_again == {}  # numbers of 4 bits fit into 8
    assert exported(tmp_path / "float", "nf4", file_type="F32").rounded_again == {}


def test_a_matrix_left_in_bfloat16_stays_so(tmp_path):
    found = exported(tmp_path, "int4 beside bfloat16")
    assert set(found.tensors_by_type) == {"F32", "Q4_0", "BF16"}
    assert found.rounded_again == {}
    assert found.read_back.probes.max_logit_error <= 1e-5


def test_rows_that_blocks_of_32_do_not_divide_become_float32_and_are_listed(tmp_path):
    found = exported(tmp_path, "int4", feed_forward_size=48)
    assert found.fallen_back == {f"blk.{layer}.ffn_down.weight": "F32" for layer in range(3)}
    assert found.rounded_again == {}


def test_a_padded_vocabulary_gets_rows_of_zeros_in_the_same_numbers(tmp_path):
    source = quantized_source(small_source(**LITTLE, vocab_size=325), "int4")
    found = export_gguf(source, tmp_path / "x.gguf", file_type=AS_STORED, in_llama_cpp=False, pad_vocabulary=True)
    assert found.rounded_again == {}
    assert found.read_back.probes.max_logit_error <= 1e-5


def test_numbers_in_the_place_of_others_are_found(tmp_path, monkeypatch):
    """The codes of one row too far, which their scales would hide from a look at the largest error alone."""
    right = stored.encode_blocks
    monkeypatch.setattr(stored, "encode_blocks", lambda blocks, type: np.roll(right(blocks, type), 1, axis=0))
    with pytest.raises(CheckFailedError, match=r"token_embd\.weight differs from the model"):
        exported(tmp_path, "int8")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(not llama_cpp_is_installed(), reason="llama-cpp-python is not installed")
@pytest.mark.parametrize("name", [*EXACT, "int4 with zero points", "int4 beside bfloat16"])
def test_llama_cpp_computes_with_the_same_numbers(tmp_path, name):
    """It rounds what it multiplies them with to 8 bits, which is all the difference there is."""
    found = exported(tmp_path, name, in_llama_cpp=True, hidden_size=256, num_heads=4, num_kv_heads=2)
    assert found.llama_cpp is not None
    assert found.llama_cpp.probes.mean_kl < 2e-3
