"""What only a trained model shows: what rounding its weights costs on text it has never seen."""

import pytest

from mamba_slm.export.onnx.export import export_onnx

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def held_out(trained_model, tmp_path_factory):
    text = tmp_path_factory.mktemp("text") / "held-out.txt"
    text.write_text("\n".join(trained_model.held_out[:80]), encoding="utf-8")
    return text


def test_float32_gives_the_models_logits_and_greedy_text(trained_model, tmp_path):
    export = export_onnx(trained_model.folder, tmp_path / "out", forms=("fused", "portable"))
    for check in export.checks.values():
        assert check.max_logit_error < 1e-4
        assert check.greedy_tokens == 64


@pytest.mark.parametrize(
    ("weights", "block_size", "kl", "agreement"),
    [("int8", None, 0.001, 0.98), ("int8", 32, 0.0005, 0.99), ("int4", None, 0.01, 0.94)],
)
def test_what_rounding_costs_stays_within_bounds(trained_model, held_out, tmp_path, weights, block_size, kl, agreement):
    export = export_onnx(trained_model.folder, tmp_path / "out", weights=weights, block_size=block_size, text=held_out)
    assert export.report is not None
    assert export.report.num_tokens == 4096
    assert 0 < export.report.mean_kl < kl
    assert export.report.argmax_agreement > agreement
    assert abs(export.report.perplexity_change) < 0.01


def test_both_forms_of_rounded_weights_are_the_same_function(trained_model, held_out, tmp_path):
    reports = []
    for form in ("fused", "portable"):
        export = export_onnx(trained_model.folder, tmp_path / form, forms=(form,), weights="int8", text=held_out)
        assert export.report is not None
        reports.append(export.report)
    assert reports[0].perplexity_after == pytest.approx(reports[1].perplexity_after, rel=2e-3)
