"""Where the files of an ONNX folder lie, for those who write it.

What the graphs are called with is said once, in `mamba_slm.model.onnx_contract`, which whoever runs them reads too.

    FOLDER/
        mamba_slm_onnx.json     the contract: config, weights, graph files
        onnx/model.onnx         the fused form; model_quantized.onnx with int8, model_q4.onnx with int4 weights, the
                                names that transformers.js looks for
        onnx/portable.onnx      the portable form, likewise
        onnx/….onnx_data        weights, where a graph is too large for one file
        genai_config.json       for ONNX Runtime GenAI (fused form only)
        config.json, tokenizer.json, tokenizer_config.json, generation_config.json
        quantization.json       what int8 or int4 changed, measured
"""

from __future__ import annotations

from mamba_slm.model.onnx_contract import Form, Weights

GRAPH_FOLDER = "onnx"
SUFFIXES: dict[Weights, str] = {"fp32": "", "int8": "_quantized", "int4": "_q4"}
STEMS: dict[Form, str] = {"fused": "model", "portable": "portable"}


def graph_path(form: Form, weights: Weights) -> str:
    """Path of a graph file, relative to the folder."""
    return f"{GRAPH_FOLDER}/{STEMS[form]}{SUFFIXES[weights]}.onnx"
