"""`genai_config.json`: how ONNX Runtime GenAI runs the fused graph.

The keys were read in the builder and tried in the library of onnxruntime-genai 0.18. It finds out from the graph's
input names which layers have which state.
"""

from __future__ import annotations

from typing import Any

from mamba_slm.model.config import ModelConfig
from mamba_slm.model.onnx_contract import ATTENTION_MASK, INPUT_IDS, LOGITS
from mamba_slm.text.tokenizer import Tokenizer

GENAI_CONFIG_FILE = "genai_config.json"


def genai_config(config: ModelConfig, tokenizer: Tokenizer | None, graph_file: str) -> dict[str, Any]:
    """The content of the file; without a tokenizer the token ids are 0, and the library takes ids only."""
    ids = {"bos": 0, "eos": 0, "pad": 0}
    if tokenizer is not None:
        ids = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "pad": tokenizer.pad_id}
    inputs = {INPUT_IDS: INPUT_IDS, ATTENTION_MASK: ATTENTION_MASK}
    outputs = {LOGITS: LOGITS}
    if config.num_attention:
        inputs |= {"past_key_names": "past_key_values.%d.key", "past_value_names": "past_key_values.%d.value"}
        outputs |= {"present_key_names": "present.%d.key", "present_value_names": "present.%d.value"}
    if config.num_mamba:
        inputs |= {"past_conv_names": "past_conv.%d", "past_recurrent_names": "past_ssm.%d"}
        outputs |= {"present_conv_names": "present_conv.%d", "present_recurrent_names": "present_ssm.%d"}
    return {
        "model": {
            "type": "decoder",
            "bos_token_id": ids["bos"],
            "eos_token_id": ids["eos"],
            "pad_token_id": ids["pad"],
            "vocab_size": config.vocab_size,
            "context_length": config.max_context_tokens,
            "decoder": {
                "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
                "filename": graph_file,
                "head_size": config.head_dim,
                "hidden_size": config.hidden_size,
                "num_attention_heads": config.num_heads,
                "num_key_value_heads": config.num_kv_heads,
                "num_hidden_layers": config.num_layers,
                "inputs": inputs,
                "outputs": outputs,
            },
        },
        "search": {
            "do_sample": False,
            "early_stopping": True,
            "max_length": config.max_context_tokens,
            "min_length": 0,
            "num_beams": 1,
            "num_return_sequences": 1,
            "past_present_share_buffer": False,
            "repetition_penalty": 1.0,
            "temperature": 1.0,
            "top_k": 50,
            "top_p": 1.0,
        },
    }
