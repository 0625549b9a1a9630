"""What lies beside the graphs: the contract, and what transformers.js and ONNX Runtime GenAI read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import ConfigError
from mamba_slm.core.files import write_json_atomic, write_text_atomic
from mamba_slm.export.hf.write import generation_config
from mamba_slm.export.onnx.genai import GENAI_CONFIG_FILE, genai_config
from mamba_slm.export.source import Source
from mamba_slm.model.checkpoint import CONFIG_FILE
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.granite import granite_config
from mamba_slm.model.hf_folder import GENERATION_CONFIG_FILE, TOKENIZER_CONFIG_FILE
from mamba_slm.model.onnx_contract import OnnxContract, Weights
from mamba_slm.model.pattern import FEED_FORWARD
from mamba_slm.text.chat_template import read_chat_template
from mamba_slm.text.hf_tokenizer import special_token_ids, tokenizer_config

JS_DTYPES: dict[Weights, str] = {"fp32": "fp32", "int8": "q8", "int4": "q4"}
"""What transformers.js calls a graph file by; see `contract.SUFFIXES`."""


def write_beside_graphs(source: Source, folder: Path, contract: OnnxContract) -> None:
    """Write every file of the folder but the graphs.

    Raises:
        DataError: the model's chat template cannot be read.
        DiskFullError: no room.
    """
    contract.write(folder)
    tokenizer, config = source.tokenizer, source.config
    ids = {} if tokenizer is None else special_token_ids(tokenizer)
    has_data = any(folder.glob("onnx/*_data"))
    write_json_atomic(folder / CONFIG_FILE, js_config(config, contract.weights, has_data=has_data) | ids)
    if "fused" in contract.files:
        write_json_atomic(folder / GENAI_CONFIG_FILE, genai_config(config, tokenizer, contract.files["fused"]))
    if tokenizer is None:
        return
    tokenizer.save(folder)
    described = tokenizer_config(tokenizer, max_tokens=config.max_context_tokens)
    # transformers.js does not know the name TokenizersBackend
    write_json_atomic(folder / TOKENIZER_CONFIG_FILE, described | {"tokenizer_class": "PreTrainedTokenizerFast"})
    write_json_atomic(folder / GENERATION_CONFIG_FILE, generation_config(tokenizer))
    template = read_chat_template(source.folder)
    if template is not None:
        write_text_atomic(folder / "chat_template.jinja", template)


def js_config(config: ModelConfig, weights: Weights, *, has_data: bool) -> dict[str, Any]:
    """config.json for transformers.js, which takes sizes and layer types from it, and the function from the graph.

    A model that GraniteMoeHybrid cannot hold is described by the nearest one that it can.
    """
    try:
        described = granite_config(config)
    except ConfigError:
        pattern = "".join(f"{kind}{FEED_FORWARD}" for kind in config.pattern if kind != FEED_FORWARD) or "M-"
        position = config.position if config.position in ("rope", "nope") else "nope"
        described = granite_config(
            replace(config, pattern=pattern, position=position, attention_window=0, rope_scaling="none")
        )
    settings: dict[str, Any] = {"dtype": JS_DTYPES[weights]}
    if has_data:
        settings["use_external_data_format"] = True
    return described | {"transformers.js_config": settings}
