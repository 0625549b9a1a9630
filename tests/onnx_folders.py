"""Small models as `mamba-slm export onnx` writes them, without the checks that it makes."""

from __future__ import annotations

from pathlib import Path

from mamba_slm.export.onnx.build import build_graph, save_graph
from mamba_slm.export.onnx.contract import graph_path
from mamba_slm.export.onnx.plan import plan_weights
from mamba_slm.model.onnx_contract import Form, OnnxContract, Weights
from mamba_slm.model.stack import LanguageModel
from small_models import small_tokenizer, varied_model


def save_onnx(model: LanguageModel, folder: Path, *, form: Form = "fused", weights: Weights = "fp32") -> Path:
    """Write the graph and its contract."""
    plan = plan_weights(model.config, weights)
    relative = graph_path(form, weights)
    save_graph(build_graph(model, form, plan), folder / relative)
    contract = OnnxContract(config=model.config, weights=weights, files={form: relative}, block_size=plan.block_size)
    contract.write(folder)
    return folder


def save_small_onnx_model(folder: Path, *, max_context_tokens: int = 48, form: Form = "fused") -> Path:
    """The same model as `small_models.save_small_model`, with its tokenizer."""
    folder.mkdir(parents=True)
    save_onnx(varied_model(max_context_tokens=max_context_tokens), folder, form=form)
    small_tokenizer().save(folder)
    return folder
