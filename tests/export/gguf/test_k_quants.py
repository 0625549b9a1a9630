"""Promises of the Q4_K and Q6_K quantizers: what `gguf` reads back is what was stored, and it is near."""

import ctypes
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mamba_slm.export.gguf.k_quants import (
    Q4_K_BYTES,
    Q6_K_BYTES,
    pack_six_bits,
    quantize_q4_k,
    quantize_q6_k,
    search_scale_and_minimum,
    search_signed_scale,
)
from mamba_slm.export.gguf.types import excess_error

QUANTIZERS = {"Q4_K": (quantize_q4_k, Q4_K_BYTES), "Q6_K": (quantize_q6_k, Q6_K_BYTES)}
both = pytest.mark.parametrize("name", QUANTIZERS)


def stored(values, name):
    """The values as `gguf` reads them back."""
    return quants.dequantize(QUANTIZERS[name][0](values.astype(np.float32)), GGMLQuantizationType[name])


def families():
    """Values of many distributions, [rows 512] each."""
    rng = np.random.default_rng(3)
    outliers = rng.standard_normal((40, 512)) * 0.01
    outliers[np.arange(40), rng.integers(0, 512, 40)] = 10 * rng.choice([-1, 1], 40)
    return {
        "normal": rng.standard_normal((40, 512)) * 0.02,
        "heavy tails": rng.standard_t(1.5, (40, 512)),
        "positive": rng.uniform(0.5, 1, (40, 512)),
        "negative": -rng.uniform(0.5, 1, (40, 512)),
        "one outlier": outliers,
        "mostly zero": rng.standard_normal((40, 512)) * (rng.random((40, 512)) < 0.02),
        "constant": np.repeat(rng.standard_normal((40, 1)), 512, axis=1),
        "two values": rng.choice([-1.0, 1.0], (40, 512)),
        "scales far apart": rng.standard_normal((40, 512)) * np.repeat(10 ** rng.uniform(-4, 1, (40, 16)), 32, axis=1),
        "tiny": rng.standard_normal((40, 512)) * 1e-5,
    }


@both
@pytest.mark.parametrize("family", families())
def test_no_value_is_further_away_than_its_type_allows(name, family):
    values = families()[family].astype(np.float32)
    assert excess_error(values, stored(values, name), name) <= 1


@both
@settings(deadline=None, max_examples=40)
@given(values=arrays(np.float32, (1, 256), elements=st.floats(-1000, 1000, width=32)))
def test_any_finite_block_stays_within_its_type(name, values):
    assert excess_error(values, stored(values, name), name) <= 1


@both
def test_zeros_stay_zeros_exactly(name):
    values = np.zeros((2, 512), np.float32)
    assert not stored(values, name).any()
    values[0, :256] = 3.0  # a zero superblock beside another
    assert not stored(values, name)[0, 256:].any()
    assert not stored(values, name)[1].any()


@both
def test_shape_and_size_are_those_of_the_format(name):
    quantize, size = QUANTIZERS[name]
    packed = quantize(np.ones((3, 5, 512), np.float32))
    assert packed.shape == (3, 5, 2 * size)
    assert packed.dtype == np.uint8
    with pytest.raises(ValueError, match="rows of 300 values are not whole superblocks of 256"):
        quantize(np.ones((2, 300), np.float32))


@both
def test_pieces_do_not_show(name):
    """More superblocks than are searched at once give the bytes of each row alone."""
    values = np.random.default_rng(5).standard_normal((1100, 256)).astype(np.float32)
    quantize = QUANTIZERS[name][0]
    together = quantize(values)
    assert np.array_equal(together[1020:1030], quantize(values[1020:1030]))


@both
def test_negative_values_become_negative_ones(name):
    values = np.linspace(-1, 1, 256, dtype=np.float32)[None]
    found = stored(values, name)
    assert np.corrcoef(values[0], found[0])[0, 1] > 0.995
    assert np.corrcoef(values[0, ::-1], stored(values[:, ::-1], name)[0])[0, 1] > 0.995


def test_every_integer_scale_survives_the_packing_into_six_bits():
    scales = np.arange(64, dtype=np.uint8).reshape(8, 8)
    minima = scales[::-1, ::-1].copy()
    found = quants.Q4_K.get_scale_min(pack_six_bits(scales, minima))
    assert np.array_equal(found[0], scales)
    assert np.array_equal(found[1], minima)


@pytest.mark.parametrize("name, largest", [("Q4_K", 0.076), ("Q6_K", 0.019)])
def test_normal_weights_lose_little(name, largest):
    """Root mean square error over that of the weights; llama.cpp's own quantizers reach 0.0713 and 0.0177."""
    values = families()["normal"]
    error = np.sqrt(((values - stored(values, name)) ** 2).mean() / (values**2).mean())
    assert error < largest


def test_the_searches_beat_plain_rounding():
    x = np.random.default_rng(7).standard_normal((20, 8, 32)).astype(np.float32)
    scale, minimum = search_scale_and_minimum(x)
    plain, plain_minimum = search_scale_and_minimum(x, candidates=0)
    assert (scale >= 0).all()
    assert (minimum >= 0).all()

    def error(scale, minimum):
        q = np.clip(np.rint((x + minimum[..., None]) / scale[..., None]), 0, 15)
        return float(((scale[..., None] * q - minimum[..., None] - x) ** 2).sum())

    assert error(scale, minimum) < 0.9 * error(plain, plain_minimum)
    signed = search_signed_scale(x.reshape(20, 16, 16))
    extreme = np.take_along_axis(x.reshape(20, 16, 16), np.abs(x.reshape(20, 16, 16)).argmax(-1)[..., None], -1)[..., 0]
    assert (np.sign(signed) == -np.sign(extreme)).all()  # the largest magnitude takes the longer side, -32


@pytest.mark.slow
@both
def test_llama_cpp_s_own_quantizer_gives_nearly_the_same_bytes(name):
    package = importlib.util.find_spec("llama_cpp")
    if package is None or package.origin is None:
        pytest.skip("llama-cpp-python is not installed")
    library = ctypes.CDLL(str(next((Path(package.origin).parent / "lib").glob("libggml-base.*"))))
    theirs = getattr(library, f"quantize_{name.lower().replace('k', 'K')}")
    theirs.restype = ctypes.c_size_t
    pointer = ctypes.c_void_p
    theirs.argtypes = [pointer, pointer, ctypes.c_int64, ctypes.c_int64, pointer]
    values = np.ascontiguousarray(np.random.default_rng(9).standard_normal((64, 1024)).astype(np.float32))
    ours = QUANTIZERS[name][0](values)
    packed = np.zeros_like(ours)
    theirs(values.ctypes.data, packed.ctypes.data, *values.shape, None)
    assert (ours == packed).mean() > 0.98

    def error(data):
        return np.sqrt(((values - quants.dequantize(data, GGMLQuantizationType[name])) ** 2).mean())

    assert error(ours) <= 1.001 * error(packed)
