"""A graph that computes something else is caught in the reading that shows it, with the layer named."""

import numpy as np
import onnx
import pytest

from export.onnx.onnx_models import exported, sequences, small_model
from mamba_slm.core.errors import CheckFailedError
from mamba_slm.export.onnx.check import check_graph, difference, with_rounded_matrices
from mamba_slm.export.onnx.plan import WeightPlan, plan_weights
from mamba_slm.export.onnx.runner import OnnxRunner


def spoil(runner, change):
    """Rewrite the stored graph by `change`, and open it again."""
    graph = onnx.load(runner.graph_file)
    change(graph.graph)
    onnx.save(graph, runner.graph_file)
    return OnnxRunner(runner.folder, num_threads=1)


def scaled(name, factor):
    def change(graph):
        tensor = next(each for each in graph.initializer if each.name == name)
        array = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array((array * factor).astype(array.dtype), name))

    return change


def without_masked_steps(graph):
    """Let padding advance the state of the first Mamba layer."""
    node = next(each for each in graph.node if each.op_type == "LinearAttention")
    masked = next(each for each in graph.node if each.output[0] == node.input[4])
    decay = masked.input[0]
    for each in graph.node:
        if each is not masked:
            each.input[:] = [decay if name == masked.output[0] else name for name in each.input]


def window_one_step_late(graph):
    """Keep the convolution's inputs from one token before."""
    node = next(each for each in graph.node if each.op_type == "GatherND" and each.output[0] == "present_conv.2")
    late = onnx.helper.make_node("Sub", [node.input[1], "one"], ["late"], name="late")
    clipped = onnx.helper.make_node("Max", ["late", "zero"], ["clipped"], name="clipped")
    for name, value in (("one", 1), ("zero", 0)):
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(value), name))
    node.input[1] = "clipped"
    place = list(graph.node).index(node)
    graph.node.insert(place, clipped)
    graph.node.insert(place, late)


def other_window(graph):
    """Let the second attention layer see five tokens only."""
    node = [each for each in graph.node if each.op_type == "GroupQueryAttention"][1]
    next(each for each in node.attribute if each.name == "local_window_size").i = 5


FAULTS = {
    "a decay rate": (scaled("sublayers.4.mixer.A", 1.1), "read whole", "layer 2 Mamba-2"),
    "a down projection": (scaled("sublayers.1.mixer.down_proj.weight", 1.01), "read whole", "layer 0 feed-forward"),
    "the embedding": (scaled("embedding.weight", 1.01), "read whole", "embedding"),
    "the final norm": (scaled("final_norm.weight", 1.01), "read whole", "final norm"),
    "an attention window": (other_window, "read whole", "layer 3 attention"),
    "a convolution's memory": (window_one_step_late, "read in pieces", "layer 2 Mamba-2"),
    "masked steps": (without_masked_steps, "read as a batch padded on the left", "layer 0 Mamba-2"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_in_its_reading_and_its_layer(tmp_path, fault):
    change, reading, layer = FAULTS[fault]
    model = small_model()
    runner = spoil(exported(tmp_path, model), change)
    with pytest.raises(CheckFailedError) as caught:
        check_graph(runner, model, WeightPlan(), sequences())
    assert caught.value.exit_code == 6
    assert f"fused, fp32, {reading}: a logit is off by" in caught.value.message
    assert caught.value.message.endswith(f"first layer that drifts: {layer}")


def test_a_fault_in_quantized_weights_is_found_and_named(tmp_path):
    model = small_model()
    plan = plan_weights(model.config, "int8")
    runner = spoil(exported(tmp_path, model, plan=plan), scaled("sublayers.2.mixer.o_proj.weight.scales", 3))
    with pytest.raises(CheckFailedError, match="first layer that drifts: layer 1 attention"):
        check_graph(runner, model, plan, sequences())


def test_a_graph_that_gives_no_number_fails(tmp_path):
    model = small_model()
    runner = spoil(exported(tmp_path, model), scaled("sublayers.3.norm.weight", np.nan))
    with pytest.raises(CheckFailedError, match="first layer that drifts: layer 1 feed-forward"):
        check_graph(runner, model, WeightPlan(), sequences())


def test_greedy_text_must_be_the_models_own(tmp_path, monkeypatch):
    """With every reading tolerated, the text still tells."""
    model = small_model()
    runner = spoil(exported(tmp_path, model), scaled("sublayers.1.mixer.down_proj.weight", 1.5))
    monkeypatch.setattr("mamba_slm.export.onnx.check.LOGIT_TOLERANCE", 1e9)
    with pytest.raises(CheckFailedError, match="greedy text differs from the model's at token"):
        check_graph(runner, model, WeightPlan(), sequences())


def test_the_difference_is_absolute_and_in_units_of_the_spread():
    expected = np.array([[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]], dtype=np.float32)
    error, relative = difference(expected + np.float32(0.5), expected)
    assert error == 0.5
    assert relative == pytest.approx(0.5 / expected[0].std())
    assert difference(np.full_like(expected, np.nan), expected) == (np.inf, np.inf)


def test_rounding_changes_matrices_and_nothing_else():
    model = small_model("learned")
    rounded = with_rounded_matrices(model, plan_weights(model.config, "int8"))
    changed = {
        name
        for (name, before), after in zip(model.state_dict().items(), rounded.state_dict().values(), strict=True)
        if not before.equal(after)
    }
    assert {name.rpartition(".")[0].rpartition(".")[2] or name for name in changed} == {
        "embedding",
        "in_proj",
        "out_proj",
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_up_proj",
        "down_proj",
    }
