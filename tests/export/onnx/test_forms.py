"""Both lowerings compute the model's function, however it is read, for everything a config can say."""

import numpy as np
import onnx
import pytest
import torch

from export.onnx.onnx_models import VARIANTS, exported, sequences, small_config, small_model
from mamba_slm.export.onnx.build import build_graph
from mamba_slm.export.onnx.caller import GraphCaller
from mamba_slm.export.onnx.check import check_graph
from mamba_slm.export.onnx.plan import WeightPlan, plan_weights
from mamba_slm.export.onnx.readings import READINGS, rows_of
from mamba_slm.export.trace import residual_names
from mamba_slm.model.onnx_contract import FORMS, onnx_states


def operators(model, form, plan=None):
    graph = build_graph(model, form, plan or WeightPlan())
    return graph, {(node.domain, node.op_type) for node in graph.graph.node}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_graph_computes_the_model_in_every_way_of_reading(tmp_path, variant, form):
    model = small_model(variant)
    result = check_graph(exported(tmp_path, model, form), model, WeightPlan(), sequences())
    assert result.max_logit_error < 1e-4
    assert result.greedy_tokens == 64
    assert set(result.readings) == set(READINGS)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("weights", ["int8", "int4"])
@pytest.mark.parametrize("variant", ["rope", "nope, two groups, untied"])
def test_a_quantized_graph_computes_what_its_rounded_weights_say(tmp_path, variant, weights, form):
    model = small_model(variant)
    plan = plan_weights(model.config, weights)
    result = check_graph(exported(tmp_path, model, form, plan=plan), model, plan, sequences())
    assert 0 < result.relative_error < 0.1
    assert result.greedy_tokens == 0


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("weights", ["fp32", "int8"])
def test_the_portable_form_is_valid_onnx_of_standard_operators_without_loops(variant, weights):
    model = small_model(variant)
    graph, kinds = operators(model, "portable", plan_weights(model.config, weights))
    onnx.checker.check_model(graph, full_check=True)
    assert {domain for domain, _ in kinds} == {""}
    assert not {kind for _, kind in kinds} & {"Loop", "Scan", "If"}
    assert graph.opset_import[0].version == (18 if weights == "fp32" else 21)


def test_the_fused_form_has_one_operator_for_each_of_convolution_recurrence_and_attention():
    graph, _ = operators(small_model(), "fused")
    counts = {kind: 0 for kind in ("CausalConvWithState", "LinearAttention", "GroupQueryAttention")}
    for node in graph.graph.node:
        if node.op_type in counts:
            counts[node.op_type] += 1
    assert counts == {"CausalConvWithState": 2, "LinearAttention": 2, "GroupQueryAttention": 2}


@pytest.mark.parametrize("variant", ["alibi", "heads of 8"])
def test_attention_that_the_fused_operator_cannot_do_is_lowered_to_standard_operators(variant):
    _, kinds = operators(small_model(variant), "fused")
    assert ("com.microsoft", "LinearAttention") in kinds
    assert ("com.microsoft", "GroupQueryAttention") not in kinds


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("weights", ["fp32", "int8"])
def test_a_tied_head_is_stored_once(form, weights):
    tied, untied = (small_model("rope", tie_embeddings=tie, vocab_size=4096) for tie in (True, False))
    sizes = [
        sum(
            len(each.raw_data)
            for each in operators(model, form, plan_weights(model.config, weights))[0].graph.initializer
        )
        for model in (tied, untied)
    ]
    rows = 4096 * 32 * (4 if weights == "fp32" else 1)
    assert sizes[1] - sizes[0] > 0.9 * rows


@pytest.mark.parametrize("form", FORMS)
def test_inputs_and_outputs_are_those_of_the_contract(form):
    config = small_config()
    graph, _ = operators(small_model(), form)
    shapes = {
        each.name: [size.dim_param or size.dim_value for size in each.type.tensor_type.shape.dim]
        for each in (*graph.graph.input, *graph.graph.output)
    }
    states = list(onnx_states(config))
    assert [each.name for each in graph.graph.input] == [
        "input_ids",
        "attention_mask",
        *(state.past for state in states),
        "num_logits_to_keep",
    ]
    assert [each.name for each in graph.graph.output] == ["logits", *(state.present for state in states)]
    assert shapes["past_conv.0"] == ["batch_size", 3, 96]
    assert shapes["past_ssm.2"] == ["batch_size", 8, 16, 8]
    assert shapes["past_key_values.1.key"] == ["batch_size", 1, "past_sequence_length", 16]
    assert shapes["present.3.value"] == ["batch_size", 1, "total_sequence_length", 16]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_num_logits_to_keep_gives_the_logits_after_the_last_real_tokens(tmp_path, form, side):
    model = small_model()
    runner = exported(tmp_path, model, form)
    prompts = sequences(9, 4, 6)
    found = GraphCaller(runner.session, runner.config, rows=3).read(*rows_of(prompts, side), keep=2)[0]
    assert found.shape == (3, 2, 61)
    for prompt, logits in zip(prompts, found, strict=True):
        with torch.inference_mode():
            expected = model(torch.tensor([prompt]))[0, -2:].numpy()
        np.testing.assert_allclose(logits, expected, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_states_of_a_padded_batch_can_be_cut_out_and_go_on_alone(tmp_path, form):
    """Row 1 of a right-padded batch: its states are those of the same tokens alone."""
    runner = exported(tmp_path, small_model(), form)
    long, short = sequences(9, 4)
    batch = GraphCaller(runner.session, runner.config, rows=2)
    batch.read(*rows_of([long, short], "right"))
    alone = GraphCaller(runner.session, runner.config)
    alone.read(np.array([short]))
    for state in onnx_states(runner.config):
        row = batch.states[state.past][1:]
        np.testing.assert_allclose(row[:, :, :4] if state.grows else row, alone.states[state.past], atol=1e-5)
    nxt = np.array([[7, 8, 9]])
    expected = alone.read(nxt)[0]
    alone.states = {name: value[1:].copy() for name, value in batch.states.items()}
    alone.mask = batch.mask[1:]
    np.testing.assert_allclose(alone.read(nxt)[0], expected, atol=1e-4)


def test_a_batch_continues_in_pieces_in_the_portable_form(tmp_path):
    """What `GroupQueryAttention` refuses: a further piece of several tokens for several rows, of different lengths."""
    model = small_model()
    runner = exported(tmp_path, model, "portable")
    rows = sequences(12, 12)
    caller = GraphCaller(runner.session, runner.config, rows=2)
    caller.read(*rows_of([rows[0][:5], rows[1][:2]], "left"))
    tokens, mask = rows_of([rows[0][5:], rows[1][2:]], "right")
    logits = caller.read(tokens, mask)[0]
    for row, start in ((0, 5), (1, 2)):
        with torch.inference_mode():
            expected = model(torch.tensor([rows[row]]))[0, start:].numpy()
        np.testing.assert_allclose(logits[row, : 12 - start], expected, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_the_residual_stream_can_be_fetched_by_name(tmp_path, form):
    model = small_model("classic")
    tokens = sequences(20)[0]
    trace = exported(tmp_path, model, form).trace(tokens, residuals=True)
    stream = []
    with torch.inference_mode():
        hidden = model.hidden_states(torch.tensor([tokens]), residuals=stream)
    assert [name for name, _ in trace.residuals] == residual_names("MM*-M*-")
    for (_, found), expected in zip(trace.residuals, [*stream, hidden], strict=True):
        torch.testing.assert_close(found, expected[0], atol=1e-4, rtol=0)
