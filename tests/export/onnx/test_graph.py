"""Writing graphs: names, constants, and shapes that stay what they are."""

import numpy as np
import pytest

from mamba_slm.core.errors import MissingDependencyError
from mamba_slm.export.onnx.graph import GraphWriter


def test_names_are_unique_and_say_where_they_were_written():
    writer = GraphWriter()
    with writer.scope("layer 0"):
        first, second = writer.op("Neg", "x"), writer.op("Neg", "x")
    outside = writer.op("Neg", "x")
    assert (first, second, outside) == ("layer 0/Neg.out", "layer 0/Neg.out_1", "Neg.out")
    assert [node.name for node in writer.nodes] == ["layer 0/Neg", "layer 0/Neg_1", "Neg"]


def test_equal_constants_are_stored_once_and_others_are_not_mixed_up():
    writer = GraphWriter()
    assert writer.ints([1]) == writer.ints([1])
    assert len({writer.ints([1]), writer.ints(1), writer.floats([1.0]), writer.ints([[1]])}) == 4
    dims = [tuple(writer.initializers[name].dims) for name in (writer.ints(1), writer.ints([1]), writer.ints([[1]]))]
    assert dims == [(), (1,), (1, 1)]


def test_four_bits_are_packed_low_half_first_and_padded():
    onnx = pytest.importorskip("onnx")
    writer = GraphWriter()
    numbers = np.array([[-8, 7, 0], [1, -1, 3], [2, 4, -5]], dtype=np.int8)
    writer.four_bits("numbers", numbers)
    tensor = writer.initializers["numbers"]
    assert len(tensor.raw_data) == 5
    assert onnx.numpy_helper.to_array(tensor).astype(np.int8).tolist() == numbers.tolist()


def test_only_used_operator_sets_are_imported():
    writer = GraphWriter()
    writer.op("Neg", "x", output="y")
    assert [each.domain for each in writer.to_model("g", opset=18, ir_version=8).opset_import] == [""]
    writer.op("QuickGelu", "y", domain="com.microsoft")
    found = {each.domain: each.version for each in writer.to_model("g", opset=18, ir_version=8).opset_import}
    assert found == {"": 18, "com.microsoft": 1}


def test_without_onnx_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MissingDependencyError) as caught:
        GraphWriter()
    assert caught.value.hint == "pip install 'mamba-slm[onnx]'"
