"""The report on rounded weights: on which text, and what it says."""

import json

import pytest

from export.onnx.onnx_models import small_model
from mamba_slm.core.errors import DataError
from mamba_slm.export.onnx.export import write_onnx_folder
from mamba_slm.export.onnx.report import measure_quantization, report_sequences
from mamba_slm.export.onnx.runner import OnnxRunner
from mamba_slm.export.onnx.stored import plan_for
from mamba_slm.export.source import Source
from small_models import small_tokenizer, varied_model


def source_of(model, tmp_path, tokenizer=None):
    return Source(tmp_path, model.eval(), tokenizer)


def measured(tmp_path, weights, **plan):
    source = source_of(varied_model(max_context_tokens=64), tmp_path, small_tokenizer())
    folder = tmp_path / weights
    folder.mkdir()
    write_onnx_folder(source, folder, weights=weights)
    sequences, text = report_sequences(source, None)
    return measure_quantization(
        source,
        OnnxRunner(folder),
        plan=plan_for(source, weights),
        sequences=sequences[:4],
        text=text,
    )


def test_four_bits_change_more_than_eight_and_the_report_says_so(tmp_path):
    eight, four = measured(tmp_path, "int8"), measured(tmp_path, "int4")
    assert 0 < eight.mean_kl < 0.01 < four.mean_kl
    assert eight.argmax_agreement > four.argmax_agreement
    assert "near lossless" in str(eight)
    assert "4 bits by rounding hurt small models" in str(four)
    assert "on 256 tokens of mamba-slm's source code" in str(four)
    assert json.loads(json.dumps(four.as_json()))["format_version"] == 1


def test_text_is_the_given_one_else_our_own_source_else_random(tmp_path):
    with_tokenizer = source_of(varied_model(max_context_tokens=32), tmp_path, small_tokenizer())
    text = tmp_path / "text.txt"
    text.write_text("def one(): return 1\n" * 20)
    sequences, what = report_sequences(with_tokenizer, text)
    assert what == str(text)
    assert small_tokenizer().decode(sequences[0]).startswith("def one(): return 1")
    sequences, what = report_sequences(with_tokenizer, None)
    assert what == "mamba-slm's source code"
    assert {len(each) for each in sequences} == {32}
    sequences, what = report_sequences(source_of(small_model(), tmp_path), None)
    assert what == "random numbers"
    assert {len(each) for each in sequences} == {256}


def test_a_text_that_cannot_be_used_is_refused(tmp_path):
    source = source_of(varied_model(), tmp_path, small_tokenizer())
    (tmp_path / "empty.txt").touch()
    (tmp_path / "latin.txt").write_bytes(b"\xe9t\xe9")
    for name, message in (
        ("none.txt", "none.txt cannot be read"),
        ("latin.txt", "latin.txt cannot be read"),
        ("empty.txt", "empty.txt has no text to measure on"),
    ):
        with pytest.raises(DataError, match=message):
            report_sequences(source, tmp_path / name)
    with pytest.raises(DataError, match="the model has no tokenizer"):
        report_sequences(source_of(small_model(), tmp_path), tmp_path / "empty.txt")
