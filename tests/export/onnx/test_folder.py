"""What transformers.js and transformers find beside the graphs."""

import json

import numpy as np
import pytest

from export.onnx.onnx_models import exported, small_config, small_model
from mamba_slm.export.onnx.export import write_onnx_folder
from mamba_slm.export.onnx.folder import js_config
from mamba_slm.export.source import Source
from mamba_slm.model.checkpoint import save_model
from small_models import small_tokenizer, varied_model


def js_feeds(session, tokens):
    """The feeds of transformers.js (`addPastKeyValues`): states are zeros; it resolves `batch_size`, the rest is 0."""
    feeds = {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}
    for each in session.get_inputs():
        if each.name.startswith("past"):
            shape = [size if isinstance(size, int) else {"batch_size": len(tokens)}.get(size, 0) for size in each.shape]
            feeds[each.name] = np.zeros(shape, dtype=np.float32)
    return feeds


@pytest.mark.parametrize("form", ["fused", "portable"])
def test_zero_states_made_from_the_sessions_metadata_are_enough(tmp_path, form):
    runner = exported(tmp_path, small_model(), form)
    tokens = np.array([[3, 4, 5, 6], [6, 5, 4, 3]])
    logits, *presents = runner.session.run(None, js_feeds(runner.session, tokens))
    expected = runner.trace([3, 4, 5, 6]).logits.numpy()
    np.testing.assert_allclose(logits[0], expected, atol=1e-4)

    names = [each.name for each in runner.session.get_outputs()][1:]
    feeds = js_feeds(runner.session, np.array([[7], [7]])) | {"attention_mask": np.ones((2, 5), np.int64)}
    feeds |= {
        name.replace("present.", "past_key_values.").replace("present_", "past_"): value
        for name, value in zip(names, presents, strict=True)
    }  # transformers.js renames outputs to inputs like this
    found = runner.session.run(["logits"], feeds)[0]
    np.testing.assert_allclose(found[0, 0], runner.trace([3, 4, 5, 6, 7]).logits[-1].numpy(), atol=1e-4)


@pytest.mark.parametrize(("weights", "file"), [("fp32", "model"), ("int8", "model_quantized"), ("int4", "model_q4")])
def test_graphs_have_the_names_that_transformers_js_looks_for(tmp_path, weights, file):
    exported(tmp_path, small_model(), weights=weights)
    assert (tmp_path / f"onnx/{file}.onnx").is_file()
    settings = json.loads((tmp_path / "config.json").read_text())["transformers.js_config"]
    assert settings == {"dtype": {"fp32": "fp32", "int8": "q8", "int4": "q4"}[weights]}


def test_config_has_legacy_layer_types_for_every_pattern():
    portable = js_config(varied_model().config, "fp32", has_data=False)
    assert portable["layer_types"] == ["mamba", "attention", "mamba"]
    assert (portable["model_type"], portable["mamba_d_conv"]) == ("granitemoehybrid", 4)
    for variant in ("classic", "alibi", "window", "feed-forwards first"):
        found = js_config(small_config(variant), "fp32", has_data=True)
        mixers = small_config(variant).pattern.replace("-", "")
        assert found["layer_types"] == ["mamba" if kind == "M" else "attention" for kind in mixers]
        assert found["transformers.js_config"]["use_external_data_format"]


def test_tokenizer_generation_config_and_chat_template_travel_along(tmp_path):
    source, out = tmp_path / "model", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    save_model(varied_model(), source)
    (source / "chat_template.jinja").write_text("{{ messages[0].content }}")
    write_onnx_folder(Source(source, varied_model(), small_tokenizer()), out)
    assert (out / "chat_template.jinja").read_text() == "{{ messages[0].content }}"
    assert json.loads((out / "generation_config.json").read_text())["pad_token_id"] == small_tokenizer().pad_id
    assert json.loads((out / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert (out / "tokenizer.json").is_file()
